/*
 * withdraw.c
 *		Gives back what is claimed for people who have just opted out, and what has
 *		just been paused or cancelled.
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
	bool		everything;
	int64	   *keys;			/* optout.h; sorted, so those of no recipient come first */
	int			n;
	int			tier;
} Wanted;

static int
compare_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static bool
wants_key(const Wanted *wanted, int64 key)
{
	return bsearch(&key, wanted->keys, wanted->n, sizeof(int64), compare_keys) != NULL;
}

/* The reason for which it goes back; NULL: it does not. */
static const char *
wants(const Wanted *wanted, const Attempt *a)
{
	if (wanted->everything || wants_key(wanted, a->recipient))
		return "opt_out";
	if (wanted->n == 0 || wanted->keys[0] > 0)
		return NULL;
	if (wants_key(wanted, notif_hold_event(&a->event)))
		return "cancel";
	if (wants_key(wanted, notif_hold_key(NOTIF_HOLD_EVERYTHING, 0)) ||
		wants_key(wanted, notif_hold_key(NOTIF_HOLD_TIER, wanted->tier)) ||
		wants_key(wanted, notif_hold_key(NOTIF_HOLD_PROVIDER, a->provider)) ||
		wants_key(wanted, notif_hold_key(NOTIF_HOLD_TYPE, a->type_id)) ||
		(a->campaign != 0 && wants_key(wanted, notif_hold_key(NOTIF_HOLD_CAMPAIGN, a->campaign))))
		return "paused";
	return NULL;
}

static void
mark(const Wanted *wanted, Attempt *a)
{
	if (a->withdrawn == NULL)
		a->withdrawn = wants(wanted, a);
}

/* For the pool: it is given back by session_result. */
static bool
wants_and_marks(const void *request_ud, void *arg)
{
	Attempt    *a = unconstify(Attempt *, (const Attempt *) request_ud);

	mark(arg, a);
	return a->withdrawn != NULL;
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
	static int64 keys[NOTIF_OPTOUTS];
	Wanted		wanted = {.keys = keys,.tier = d->worker->tier};
	dlist_iter	it;

	if (notif_optout_count(d->worker->database) == d->optouts_seen)
		return;
	wanted.everything = !notif_optout_read(d->worker->database, &d->optouts_seen, keys, &wanted.n);
	qsort(keys, wanted.n, sizeof(int64), compare_keys);

	if (a != NULL)
		mark(&wanted, a);
	dlist_foreach(it, &d->claimed)
		mark(&wanted, dlist_container(Attempt, node, it.cur));
	dlist_foreach(it, &d->waiting)
		mark(&wanted, dlist_container(Attempt, wait_node, it.cur));
	dlist_foreach(it, &d->ready)
		mark(&wanted, dlist_container(Attempt, wait_node, it.cur));
	dlist_foreach(it, &d->sessions)
	{
		Session    *session = dlist_container(Session, node, it.cur);

		if (session->pool != NULL)
			notif_h2_pool_withdraw(session->pool, wants_and_marks, &wanted);
	}
}
