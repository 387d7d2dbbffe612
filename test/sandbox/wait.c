/*
 * wait.c
 *		Streams whose answer is not given now, one list per reason.
 *
 * Every waiting stream is in exactly the list its wait field names.  Lists
 * are first in, first out; due times in a list rise as long as the configured
 * delay stands, and a shortened delay queues behind the longer one before it.
 */
#include "sandbox.h"

typedef struct WaitList
{
	SbStream   *head;
	SbStream   *tail;
	uint64_t	length;
} WaitList;

static WaitList wait_lists[SB_WAIT_GOAWAY + 1];

void
sb_wait_add(SbStream *s, SbWait kind, int64_t due_us)
{
	WaitList   *list = &wait_lists[kind];

	s->wait = kind;
	s->due_us = due_us;
	s->next = NULL;
	s->prev = list->tail;
	if (list->tail != NULL)
		list->tail->next = s;
	else
		list->head = s;
	list->tail = s;
	list->length++;
}

void
sb_wait_remove(SbStream *s)
{
	WaitList   *list = &wait_lists[s->wait];

	if (s->wait == SB_WAIT_NONE)
		return;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		list->head = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	else
		list->tail = s->prev;
	list->length--;
	s->wait = SB_WAIT_NONE;
	s->next = NULL;
	s->prev = NULL;
}

/* Monotonic time of the next timed answer, or -1. */
int64_t
sb_wait_next_due(void)
{
	int64_t		due = -1;

	if (wait_lists[SB_WAIT_DELAY].head != NULL)
		due = wait_lists[SB_WAIT_DELAY].head->due_us;
	if (wait_lists[SB_WAIT_DRIP].head != NULL &&
		(due < 0 || wait_lists[SB_WAIT_DRIP].head->due_us < due))
		due = wait_lists[SB_WAIT_DRIP].head->due_us;
	return due;
}

/* Gives every answer that is due. */
void
sb_wait_run(int64_t now_us)
{
	SbStream   *s;

	while ((s = wait_lists[SB_WAIT_DELAY].head) != NULL && s->due_us <= now_us)
	{
		sb_wait_remove(s);
		sb_request_answer(s->conn, s);
	}
	while ((s = wait_lists[SB_WAIT_DRIP].head) != NULL && s->due_us <= now_us)
	{
		sb_wait_remove(s);
		sb_request_drip(s);
	}
}

/* Ends the hang: answers what waits, or resets it with CANCEL. */
void
sb_wait_release_hung(bool answer)
{
	SbStream   *s;

	while ((s = wait_lists[SB_WAIT_HANG].head) != NULL)
	{
		sb_wait_remove(s);
		if (answer)
			sb_request_answer(s->conn, s);
		else
		{
			nghttp2_submit_rst_stream(s->conn->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
			sb_conn_mark(s->conn);
		}
	}
}

SbStream *
sb_wait_first_withheld(const SbConn *c)
{
	SbStream   *s = wait_lists[SB_WAIT_GOAWAY].head;

	while (s != NULL && s->conn != c)
		s = s->next;
	return s;
}

uint64_t
sb_wait_hung(void)
{
	return wait_lists[SB_WAIT_HANG].length;
}
