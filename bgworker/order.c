/*
 * order.c
 *		One attempt in the air at a time for each endpoint, in the router's order.
 *
 * The claim hands over attempts in order; of a type that is ordered, the first one
 * of an endpoint goes out and the others wait here, in memory, for its answer.  An
 * endpoint has an entry as long as something of it is in the air, or has ended in a
 * way that is not final and not yet recorded: from the record on, the claim knows
 * by itself that the endpoint is blocked.
 *
 * Nothing waits here for long: a claimed attempt reaches its first byte within
 * ORDER_WAIT_MS or goes back into the schedule, where those behind it follow it
 * (sql/65-record.tier.sql keeps them in order and notes the endpoint as blocked, so
 * that the claim holds back what comes later).  The same happens at once when the
 * one in the air has to be tried again, and for more than a few of one endpoint: a
 * producer in a loop must not fill the dispatcher.  What goes back is spread over
 * the time that the endpoint will need for those before it.
 *
 * Of those that wait with the same collapse key only the newest is left.
 *
 * Called from network callbacks: nothing here raises, except order_admit, which may
 * run out of memory while the attempt still is where an ERROR finds it.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "dispatcher.h"

#define QUEUE_MAX			16	/* attempts of one endpoint that wait in memory */
#define LATENCY_GUESS_MS	50
#define LATENCY_MAX_MS		1000
#define BEHIND_MAX_MS		600000

typedef struct EndpointQueue
{
	int64		endpoint;		/* hash key */
	Attempt    *flying;			/* in the air, or in Dispatcher.ready */
	dlist_head	waiting;		/* by Attempt.node, in order */
	int			n_waiting;
	int64		since_ms;		/* when that began, or ended last */
	int			unrecorded;		/* done, not for good, and not recorded */
	int			latency_ms;		/* of its last request, or a guess */
	int			behind_ms;		/* what was given back before will take */
} EndpointQueue;

void
order_init(Dispatcher *d)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(EndpointQueue);
	ctl.hcxt = d->worker->life;
	d->queues = hash_create("notif endpoints in the air", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&d->waiting);
	dlist_init(&d->ready);
}

/* ---- waiting ------------------------------------------------------------------ */

static size_t
text_size(const char *text)
{
	return text != NULL ? strlen(text) + 1 : 0;
}

static const char *
text_copy(char **room, const char *text)
{
	char	   *copy = *room;

	if (text == NULL)
		return NULL;
	memcpy(copy, text, text_size(text));
	*room += text_size(text);
	return copy;
}

static void
text_free(Attempt *a)
{
	/* the address is the first string, so it is where the piece begins */
	if (a->text.address != NULL)
		pfree(unconstify(char *, a->text.address));
	memset(&a->text, 0, sizeof(a->text));
}

/* Out of the queue and of the list that it waits in. */
static void
leave(Dispatcher *d, Attempt *a)
{
	dlist_delete(&a->node);
	dlist_delete(&a->wait_node);
	a->queue->n_waiting--;
	d->n_waiting--;
	a->queue = NULL;
	text_free(a);
}

/* Back into the schedule, after those that went before it. */
static void
give_back(Dispatcher *d, EndpointQueue *queue, Attempt *a)
{
	int64		age_ms = notif_monotonic_ms() - queue->since_ms;

	/* who hangs for long is asked ever more rarely */
	a->retry_after_s = (int) Min(60, 1 + age_ms / 1000);
	a->retry_after_ms = queue->behind_ms;
	queue->behind_ms = Min(queue->behind_ms + queue->latency_ms, BEHIND_MAX_MS);
	a->queue = queue;
	queue->unrecorded++;
	attempt_done(d, a, "not_sent", "order");
}

/* The entry goes with the last reason for it. */
static void
forget_if_over(Dispatcher *d, EndpointQueue *queue)
{
	if (queue->flying == NULL && queue->unrecorded == 0 && dlist_is_empty(&queue->waiting))
		hash_search(d->queues, &queue->endpoint, HASH_REMOVE, NULL);
}

static void
give_back_waiting(Dispatcher *d, EndpointQueue *queue)
{
	while (!dlist_is_empty(&queue->waiting))
	{
		Attempt    *a = dlist_head_element(Attempt, node, &queue->waiting);

		leave(d, a);
		give_back(d, queue, a);
	}
}

bool
order_admit(Dispatcher *d, Attempt *a, const ClaimedText *text)
{
	EndpointQueue *queue;
	bool		found;
	char	   *room;
	dlist_mutable_iter it;

	if (!a->ordered)
	{
		dlist_delete(&a->node);
		return true;
	}
	queue = hash_search(d->queues, &a->endpoint, HASH_ENTER, &found);
	if (!found)
	{
		queue->flying = a;
		queue->since_ms = notif_monotonic_ms();
		queue->n_waiting = 0;
		queue->unrecorded = 0;
		queue->latency_ms = LATENCY_GUESS_MS;
		queue->behind_ms = 0;
		dlist_init(&queue->waiting);
		a->queue = queue;
		dlist_delete(&a->node);
		return true;
	}
	if (a->collapses)
	{
		dlist_foreach_modify(it, &queue->waiting)
		{
			Attempt    *older = dlist_container(Attempt, node, it.cur);

			if (!older->collapses || older->collapse != a->collapse)
				continue;
			leave(d, older);
			attempt_done(d, older, "superseded", "collapse");
		}
	}
	if (queue->n_waiting >= QUEUE_MAX || queue->unrecorded > 0 || text->address == NULL)
	{
		dlist_delete(&a->node);
		give_back(d, queue, a);
		return false;
	}
	room = MemoryContextAlloc(d->worker->life, text_size(text->address) + text_size(text->ref) +
							  text_size(text->locale) + text_size(text->attributes));
	a->text.address = text_copy(&room, text->address);
	a->text.ref = text_copy(&room, text->ref);
	a->text.locale = text_copy(&room, text->locale);
	a->text.attributes = text_copy(&room, text->attributes);
	a->claimed_ms = notif_monotonic_ms();
	a->queue = queue;
	dlist_delete(&a->node);
	dlist_push_tail(&queue->waiting, &a->node);
	dlist_push_tail(&d->waiting, &a->wait_node);
	queue->n_waiting++;
	d->n_waiting++;
	return false;
}

/* ---- whose turn it is ----------------------------------------------------------- */

void
order_ended(Dispatcher *d, Attempt *a)
{
	EndpointQueue *queue = a->queue;
	Attempt    *next;

	if (queue->flying != a)
		return;					/* given back */
	queue->flying = NULL;
	if (a->latency_us > 0)
		queue->latency_ms = Min(a->latency_us / 1000 + 1, LATENCY_MAX_MS);

	/*
	 * The next one goes only behind what has ended for good, and with the
	 * endpoint in good standing: a dead or doubted one is for the gates.
	 */
	if (strcmp(a->verdict, "accepted") == 0 || strcmp(a->verdict, "message_bad") == 0)
		a->queue = NULL;
	else
	{
		queue->unrecorded++;
		give_back_waiting(d, queue);
	}
	queue->since_ms = notif_monotonic_ms();
	if (dlist_is_empty(&queue->waiting))
	{
		forget_if_over(d, queue);
		return;
	}
	next = dlist_container(Attempt, node, dlist_pop_head_node(&queue->waiting));
	queue->n_waiting--;
	queue->flying = next;
	dlist_delete(&next->wait_node);
	dlist_push_tail(&d->ready, &next->wait_node);
}

void
order_recorded(Dispatcher *d, Attempt *a)
{
	EndpointQueue *queue = a->queue;

	a->queue = NULL;
	queue->unrecorded--;
	forget_if_over(d, queue);
}

/* Sends one whose turn it is, or gives it back. */
static void
serve_one(Dispatcher *d, Attempt *a, bool sending)
{
	const Lane *lane = a->lane;
	ClaimedText text = a->text;

	dlist_delete(&a->wait_node);
	d->n_waiting--;
	/* what was read for it may be gone: the claim reads it again */
	if (!sending || !lane->present || !session_usable(lane->session) ||
		content_event(d->content, &a->event) == NULL || content_type(d->content, a->type_id) == NULL ||
		notif_monotonic_ms() - a->claimed_ms > ORDER_WAIT_MS)
	{
		a->retry_after_s = 1;
		attempt_done(d, a, "not_sent", "order");
	}
	else
		dispatcher_send(d, a, &text);
	text_free(a);
}

bool
order_serve(Dispatcher *d)
{
	int64		now = notif_monotonic_ms();
	bool		sent = false;

	while (!dlist_is_empty(&d->waiting))
	{
		Attempt    *oldest = dlist_head_element(Attempt, wait_node, &d->waiting);

		if (now - oldest->claimed_ms < ORDER_WAIT_MS)
			break;
		/* with all of its endpoint: none may pass another */
		give_back_waiting(d, oldest->queue);
	}
	while (!dlist_is_empty(&d->ready))
	{
		serve_one(d, dlist_head_element(Attempt, wait_node, &d->ready), true);
		sent = true;
	}
	return sent;
}

void
order_give_back(Dispatcher *d)
{
	while (!dlist_is_empty(&d->waiting))
		give_back_waiting(d, dlist_head_element(Attempt, wait_node, &d->waiting)->queue);
	while (!dlist_is_empty(&d->ready))
		serve_one(d, dlist_head_element(Attempt, wait_node, &d->ready), false);
}
