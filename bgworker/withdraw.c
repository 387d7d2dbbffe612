/*
 * withdraw.c
 *		Gives back what is claimed for people who have just opted out.
 *
 * What a dispatcher has claimed is on the wire, in the queue of the network's pool,
 * behind another one of its endpoint (order.c), or between its claim and its
 * submission.  All but the first are marked here; a marked attempt is given back,
 * unsent, where its turn would have come, and the gates judge it anew.  Which
 * entries of the ring are new is known by their count, so that a claim needs to
 * remember nothing: those before it are in its snapshot, those after it are looked
 * at before anything leaves.
 */
#include "postgres.h"

#include "../src/optout.h"
#include "../src/shmem.h"
#include "dispatcher.h"

typedef struct Wanted
{
	bool		everybody;
	int64	   *recipients;		/* sorted */
	int			n;
} Wanted;

static int
compare_recipients(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static bool
wants(const void *request_ud, void *arg)
{
	const Attempt *a = request_ud;
	const Wanted *wanted = arg;

	return wanted->everybody ||
		bsearch(&a->recipient, wanted->recipients, wanted->n, sizeof(int64), compare_recipients) != NULL;
}

/* For the pool: it is given back by session_result. */
static bool
wants_and_marks(const void *request_ud, void *arg)
{
	if (!wants(request_ud, arg))
		return false;
	unconstify(Attempt *, (const Attempt *) request_ud)->withdrawn = true;
	return true;
}

void
withdraw_init(Dispatcher *d)
{
	/* before its first claim's snapshot */
	d->optouts_seen = notif_optout_count(d->worker->database);
}

void
withdraw_look(Dispatcher *d, Attempt *a)
{
	static int64 recipients[NOTIF_OPTOUTS];
	Wanted		wanted = {.recipients = recipients};
	dlist_iter	it;

	if (notif_optout_count(d->worker->database) == d->optouts_seen)
		return;
	wanted.everybody = !notif_optout_read(d->worker->database, &d->optouts_seen, recipients, &wanted.n);
	qsort(recipients, wanted.n, sizeof(int64), compare_recipients);

	if (a != NULL)
		a->withdrawn |= wants(a, &wanted);
	dlist_foreach(it, &d->claimed)
		dlist_container(Attempt, node, it.cur)->withdrawn |= wants(dlist_container(Attempt, node, it.cur), &wanted);
	dlist_foreach(it, &d->waiting)
		dlist_container(Attempt, wait_node, it.cur)->withdrawn |= wants(dlist_container(Attempt, wait_node, it.cur), &wanted);
	dlist_foreach(it, &d->ready)
		dlist_container(Attempt, wait_node, it.cur)->withdrawn |= wants(dlist_container(Attempt, wait_node, it.cur), &wanted);
	dlist_foreach(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);

		if (session->pool != NULL)
			notif_h2_pool_withdraw(session->pool, wants_and_marks, &wanted);
	}
}
