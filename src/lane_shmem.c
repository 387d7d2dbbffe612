/*
 * lane_shmem.c
 *		Breakers and pacers in shared memory; see lane_shmem.h.
 *
 * Closed, a grant reads one atomic word and takes no lock; every result takes the
 * lock for the time of some additions.
 *
 * Lock notes stand beside the fields in lane_shmem.h.
 */
#include "postgres.h"

#include "commands/extension.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "ids.h"
#include "lane_shmem.h"
#include "settings.h"
#include "shmem.h"
#include "wake.h"

#define LANES (&notif_shared->lanes)

static NotifBreakerSlot *breaker_lock(NotifBreakerRef ref, LWLockMode mode);
static void breaker_publish(NotifBreakerSlot *slot);
static void breaker_changed(NotifBreakerSlot *slot, NotifBreakerState from, const char *why, const char *by);
static void breaker_wake(void);
static NotifPacerSlot *pacer_lock(NotifPacerRef ref, LWLockMode mode);
static int	pacer_in_flight(NotifPacerSlot *slot);

void
notif_lane_shmem_init(NotifLaneShared *shared)
{
	pg_atomic_init_u64(&shared->changes, 0);
	for (int i = 0; i < NOTIF_MAX_BREAKERS; i++)
		pg_atomic_init_u64(&shared->breakers[i].mode, 0);
	for (int i = 0; i < NOTIF_MAX_PACERS; i++)
	{
		for (int tier = 0; tier < NOTIF_TIERS; tier++)
			pg_atomic_init_u32(&shared->pacers[i].in_flight[tier], 0);
	}
}

int64
notif_lane_now_us(void)
{
	return notif_monotonic_us() + notif_clock_offset_us();
}

/* ---- finding ---------------------------------------------------------------------------- */

/*
 * The slot of (provider, route) in this database, or a free one, or the one that
 * was looked up longest ago, made this one's: then *fresh, and all behind its key
 * is the caller's to set.  Under the lock.
 */
static void *
lane_slot_find(void *slots, Size size, int n, Oid extension, int provider, int route, bool *fresh)
{
	NotifLaneKey *oldest = NULL;
	NotifLaneKey *found = NULL;

	for (int i = 0; i < n && found == NULL; i++)
	{
		NotifLaneKey *key = (NotifLaneKey *) ((char *) slots + i * size);

		if (key->dboid == MyDatabaseId && key->extension == extension &&
			key->provider == provider && key->route == route)
			found = key;
		/* of an extension that is gone from this database */
		else if (key->dboid == MyDatabaseId && key->extension != extension)
			key->dboid = InvalidOid;
		if (oldest == NULL || (OidIsValid(oldest->dboid) &&
							   (!OidIsValid(key->dboid) || key->used < oldest->used)))
			oldest = key;
	}
	*fresh = found == NULL;
	if (*fresh)
	{
		found = oldest;
		found->dboid = MyDatabaseId;
		found->extension = extension;
		found->provider = provider;
		found->route = route;
	}
	found->used = ++LANES->lookups;
	return found;
}

/*
 * Takes the lock if the slot still is that of (provider, route); false, with
 * nothing locked, if it is not.
 */
static bool
lane_slot_lock(const NotifLaneKey *key, int provider, int route, LWLockMode mode)
{
	LWLockAcquire(notif_shared->lane_lock, mode);
	if (key->dboid == MyDatabaseId && key->provider == provider && key->route == route)
		return true;
	LWLockRelease(notif_shared->lane_lock);
	return false;
}

/* ---- breakers ------------------------------------------------------------------------------ */

NotifBreakerRef
notif_breaker_find(int provider, int route, bool *known)
{
	NotifBreakerRef ref = {.provider = provider,.route = route};
	Oid			extension = get_extension_oid(NOTIF_EXTENSION, true);
	NotifBreakerSlot *slot;
	bool		fresh;

	*known = true;
	if (notif_shared == NULL)
		return ref;
	LWLockAcquire(notif_shared->lane_lock, LW_EXCLUSIVE);
	slot = lane_slot_find(LANES->breakers, sizeof(NotifBreakerSlot), NOTIF_MAX_BREAKERS, extension, provider, route, &fresh);
	if (fresh)
	{
		slot->known = false;
		slot->reserved = 0;
		slot->since_at = notif_now();
		slot->why[0] = '\0';
		slot->by[0] = '\0';
		slot->n_changes = 0;
		notif_breaker_init(&slot->core, 1, notif_lane_now_us());
		breaker_publish(slot);
	}
	ref.slot = slot;
	*known = slot->known;
	LWLockRelease(notif_shared->lane_lock);
	return ref;
}

/* The slot, locked; NULL, with nothing locked, if it is not there any more. */
static NotifBreakerSlot *
breaker_lock(NotifBreakerRef ref, LWLockMode mode)
{
	return ref.slot != NULL && lane_slot_lock(&ref.slot->key, ref.provider, ref.route, mode) ? ref.slot : NULL;
}

/* A new epoch, for all to see; under the lock. */
static void
breaker_publish(NotifBreakerSlot *slot)
{
	/* what a session has reserved is its own */
	if (slot->core.epoch <= slot->reserved)
		slot->core.epoch = slot->reserved + 1;
	pg_atomic_write_u64(&slot->mode, slot->core.epoch * 4 + (uint64) slot->core.state);
	pg_atomic_fetch_add_u64(&LANES->changes, 1);
}

NotifBreakerState
notif_breaker_mode(NotifBreakerRef ref, uint64 *epoch)
{
	uint64		mode = ref.slot != NULL ? pg_atomic_read_u64(&ref.slot->mode) : 0;

	*epoch = mode / 4;
	return (NotifBreakerState) (mode % 4);
}

uint64
notif_breaker_changes(void)
{
	return pg_atomic_read_u64(&LANES->changes);
}

/* ---- breakers: changing ----------------------------------------------------------------- */

/* A change that no session has written down; under the lock. */
static void
breaker_changed(NotifBreakerSlot *slot, NotifBreakerState from, const char *why, const char *by)
{
	NotifBreakerChange *change;
	int64		wait;

	if (slot->n_changes == NOTIF_BREAKER_UNWRITTEN)
	{
		memmove(slot->changes, slot->changes + 1, sizeof(slot->changes[0]) * (NOTIF_BREAKER_UNWRITTEN - 1));
		slot->n_changes--;
	}
	breaker_publish(slot);
	slot->since_at = notif_now();
	strlcpy(slot->by, by, sizeof(slot->by));
	strlcpy(slot->why, why, sizeof(slot->why));
	change = &slot->changes[slot->n_changes++];
	memset(change, 0, sizeof(*change));
	change->provider = slot->key.provider;
	change->route = slot->key.route;
	change->epoch = slot->core.epoch;
	change->at = slot->since_at;
	change->from = from;
	change->to = slot->core.state;
	change->cause = slot->core.cause;
	change->step = slot->core.step;
	wait = notif_breaker_wait_us(&slot->core, notif_lane_now_us(), 0);
	if (slot->core.state == NOTIF_BREAKER_OPEN && wait != INT64_MAX)
		change->probe_at = change->at + wait;
	strlcpy(change->why, why, sizeof(change->why));
	strlcpy(change->by, by, sizeof(change->by));
}

/* A change concerns whoever has something in flight or in its queue. */
static void
breaker_wake(void)
{
	for (int tier = 0; tier < NOTIF_TIERS; tier++)
		notif_wake_worker(MyDatabaseId, NOTIF_WORKER_DISPATCHER, tier);
}

/* Tick, under the lock; true if somebody has to be told. */
static bool
breaker_tick(NotifBreakerSlot *slot, int64 now_us, bool wants_to_send)
{
	NotifBreakerState from = slot->core.state;

	if (!notif_breaker_tick(&slot->core, now_us, wants_to_send))
		return false;
	breaker_changed(slot, from, slot->core.state == NOTIF_BREAKER_HALF_OPEN ?
					"time for a probe" : "all of its capacity is used again", "");
	return true;
}

int
notif_breaker_take(NotifBreakerRef ref, int wanted, double rate, double burst, uint64 *epoch)
{
	NotifBreakerSlot *slot;
	int64		now_us;
	bool		changed;
	int			n;

	if (notif_breaker_mode(ref, epoch) == NOTIF_BREAKER_CLOSED)
		return wanted;
	slot = breaker_lock(ref, LW_EXCLUSIVE);
	if (slot == NULL)
		return wanted;
	now_us = notif_lane_now_us();
	changed = breaker_tick(slot, now_us, true);
	n = notif_breaker_grant(&slot->core, now_us, wanted, rate, burst);
	*epoch = slot->core.epoch;
	LWLockRelease(notif_shared->lane_lock);
	if (changed)
		breaker_wake();
	return n;
}

void
notif_breaker_give_back(NotifBreakerRef ref, uint64 epoch, int n)
{
	NotifBreakerSlot *slot;
	uint64		now;

	if (n <= 0 || notif_breaker_mode(ref, &now) == NOTIF_BREAKER_CLOSED ||
		(slot = breaker_lock(ref, LW_EXCLUSIVE)) == NULL)
		return;
	notif_breaker_return(&slot->core, epoch, n);
	LWLockRelease(notif_shared->lane_lock);
}

int
notif_breaker_free(NotifBreakerRef ref, int in_flight, int capacity)
{
	NotifBreakerSlot *slot;
	uint64		epoch;
	int			room;

	if (notif_breaker_mode(ref, &epoch) == NOTIF_BREAKER_CLOSED ||
		(slot = breaker_lock(ref, LW_SHARED)) == NULL)
		return Max(capacity - in_flight, 0);
	room = notif_breaker_room(&slot->core, notif_lane_now_us(), in_flight, capacity);
	LWLockRelease(notif_shared->lane_lock);
	return room;
}

int64
notif_breaker_delay_us(NotifBreakerRef ref, double rate)
{
	NotifBreakerSlot *slot;
	uint64		epoch;
	int64		wait;

	if (notif_breaker_mode(ref, &epoch) == NOTIF_BREAKER_CLOSED ||
		(slot = breaker_lock(ref, LW_SHARED)) == NULL)
		return 0;
	wait = notif_breaker_wait_us(&slot->core, notif_lane_now_us(), rate);
	LWLockRelease(notif_shared->lane_lock);
	return wait;
}

int64
notif_breaker_watch(NotifBreakerRef ref)
{
	NotifBreakerSlot *slot;
	uint64		epoch;
	int64		left = INT64_MAX;
	int64		now_us;
	bool		changed;

	if (notif_breaker_mode(ref, &epoch) != NOTIF_BREAKER_RECOVERING ||
		(slot = breaker_lock(ref, LW_EXCLUSIVE)) == NULL)
		return left;
	now_us = notif_lane_now_us();
	changed = breaker_tick(slot, now_us, false);
	if (slot->core.state == NOTIF_BREAKER_RECOVERING)
		left = Max(slot->core.since_us + NOTIF_BREAKER_RAMP_US - now_us, 1);
	LWLockRelease(notif_shared->lane_lock);
	if (changed)
		breaker_wake();
	return left;
}

/* What an operator reads of why it changed. */
static void
breaker_describe(const NotifBreaker *b, NotifBreakerState from, const NotifBreakerCounts *before,
				 const char *word, char *why, size_t size)
{
	if (b->state == NOTIF_BREAKER_RECOVERING)
		snprintf(why, size, "%d of %d probes are good", NOTIF_BREAKER_PROBES_GOOD, NOTIF_BREAKER_PROBES);
	else if (b->cause == NOTIF_BREAKER_CAUSE_CREDENTIALS)
		snprintf(why, size, "credentials are refused: %s", word);
	else if (from == NOTIF_BREAKER_HALF_OPEN)
		snprintf(why, size, "the probes failed: %s", word);
	else if (b->cause == NOTIF_BREAKER_CAUSE_UNREACHED)
		snprintf(why, size, "no connection can be made: %s", word);
	else
		snprintf(why, size, "%u of %u results of %d s %s: %s",
				 1 + (b->cause == NOTIF_BREAKER_CAUSE_SUSPECTS ? before->suspects : before->failed),
				 1 + before->results, NOTIF_BREAKER_WINDOW_S,
				 b->cause == NOTIF_BREAKER_CAUSE_SUSPECTS ? "doubt the address" : "failed", word);
}

bool
notif_breaker_report(NotifBreakerRef ref, uint64 epoch, NotifSign sign, const char *word)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_EXCLUSIVE);
	NotifBreakerCounts before;
	NotifBreakerState from;
	int64		now_us;
	bool		blameless;
	bool		changed;

	if (slot == NULL)
		return false;
	now_us = notif_lane_now_us();
	from = slot->core.state;
	if (sign != NOTIF_SIGN_GOOD)
		notif_breaker_counts(&slot->core, now_us, &before);
	else
		memset(&before, 0, sizeof(before));
	changed = notif_breaker_note(&slot->core, now_us, epoch, sign, guc_breaker_volume,
								 pg_prng_uint32(&pg_global_prng_state), &blameless);
	if (changed)
	{
		char		why[NOTIF_BREAKER_WHY];

		breaker_describe(&slot->core, from, &before, word, why, sizeof(why));
		breaker_changed(slot, from, why, "");
	}
	LWLockRelease(notif_shared->lane_lock);
	if (changed)
		breaker_wake();
	return blameless;
}

void
notif_breaker_new_credentials(NotifBreakerRef ref)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_EXCLUSIVE);

	if (slot == NULL)
		return;
	if (slot->core.cause == NOTIF_BREAKER_CAUSE_CREDENTIALS)
		notif_breaker_hurry(&slot->core, notif_lane_now_us());
	LWLockRelease(notif_shared->lane_lock);
}

TimestampTz
notif_breaker_until(NotifBreakerRef ref)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_SHARED);
	TimestampTz until = 0;

	if (slot == NULL)
		return 0;
	if (slot->core.state == NOTIF_BREAKER_OPEN)
	{
		int64		wait = notif_breaker_wait_us(&slot->core, notif_lane_now_us(), 0);

		until = wait == INT64_MAX ? DT_NOEND : wait > 0 ? notif_now() + wait : 0;
	}
	LWLockRelease(notif_shared->lane_lock);
	return until;
}

/* ---- breakers: the log ---------------------------------------------------------------------- */

int
notif_breaker_unwritten(NotifBreakerChange *changes, int max)
{
	int			n = 0;

	LWLockAcquire(notif_shared->lane_lock, LW_SHARED);
	for (int i = 0; i < NOTIF_MAX_BREAKERS; i++)
	{
		const NotifBreakerSlot *slot = &LANES->breakers[i];

		if (slot->key.dboid != MyDatabaseId)
			continue;
		for (int c = 0; c < slot->n_changes && n < max; c++)
			changes[n++] = slot->changes[c];
	}
	LWLockRelease(notif_shared->lane_lock);
	return n;
}

/* Other dispatchers may have written the same ones, and more have come since. */
void
notif_breaker_written(const NotifBreakerChange *changes, int n)
{
	LWLockAcquire(notif_shared->lane_lock, LW_EXCLUSIVE);
	for (int i = 0; i < NOTIF_MAX_BREAKERS; i++)
	{
		NotifBreakerSlot *slot = &LANES->breakers[i];
		int			kept = 0;

		if (slot->key.dboid != MyDatabaseId)
			continue;
		for (int c = 0; c < slot->n_changes; c++)
		{
			bool		written = false;

			for (int w = 0; w < n && !written; w++)
				written = changes[w].provider == slot->key.provider && changes[w].route == slot->key.route &&
					changes[w].epoch == slot->changes[c].epoch;
			if (!written)
				slot->changes[kept++] = slot->changes[c];
		}
		slot->n_changes = kept;
	}
	LWLockRelease(notif_shared->lane_lock);
}

/* ---- breakers: sessions ------------------------------------------------------------------------ */

void
notif_breaker_recall(NotifBreakerRef ref, const NotifBreakerChange *last, const char *by)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_EXCLUSIVE);
	bool		changed = false;

	if (slot == NULL)
		return;
	if (!slot->known)
	{
		int64		left = last->probe_at - notif_now();

		notif_breaker_restore(&slot->core, last->epoch, last->to, last->cause, last->step, left,
							  notif_lane_now_us());
		slot->known = true;
		slot->since_at = last->at;
		strlcpy(slot->why, last->why, sizeof(slot->why));
		strlcpy(slot->by, by, sizeof(slot->by));
		changed = slot->core.state != NOTIF_BREAKER_CLOSED;
		if (last->to != slot->core.state)
		{
			slot->core.epoch++;
			breaker_changed(slot, last->to, "the server was started anew", "");
		}
		else
			breaker_publish(slot);
	}
	LWLockRelease(notif_shared->lane_lock);
	if (changed)
		breaker_wake();
}

bool
notif_breaker_reserve(NotifBreakerRef ref, bool open, bool mend, bool again, uint64 *epoch,
					  NotifBreakerState *from)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_EXCLUSIVE);
	bool		by_hand;

	if (slot == NULL)
		return false;
	*from = slot->core.state;
	by_hand = *from == NOTIF_BREAKER_OPEN && slot->core.cause == NOTIF_BREAKER_CAUSE_MANUAL;
	if (!again && (open ? by_hand : *from == NOTIF_BREAKER_CLOSED || (mend && by_hand)))
	{
		LWLockRelease(notif_shared->lane_lock);
		return false;
	}
	slot->reserved = Max(slot->reserved, slot->core.epoch) + 1;
	*epoch = slot->reserved;
	LWLockRelease(notif_shared->lane_lock);
	return true;
}

void
notif_breaker_apply(NotifBreakerRef ref, bool open, uint64 epoch, const char *why, const char *by)
{
	NotifBreakerSlot *slot = breaker_lock(ref, LW_EXCLUSIVE);
	NotifBreakerState from;
	uint64		before;

	if (slot == NULL)
		return;
	from = slot->core.state;
	before = slot->core.epoch;
	if (open)
		notif_breaker_open(&slot->core, notif_lane_now_us());
	else
		notif_breaker_close(&slot->core, notif_lane_now_us());
	if (epoch > before)
	{
		slot->core.epoch = epoch;
		slot->since_at = notif_now();
		strlcpy(slot->why, why, sizeof(slot->why));
		strlcpy(slot->by, by, sizeof(slot->by));
		pg_atomic_write_u64(&slot->mode, slot->core.epoch * 4 + (uint64) slot->core.state);
		pg_atomic_fetch_add_u64(&LANES->changes, 1);
	}
	else
	{
		/* overtaken since it took its epoch: its row is not the last one */
		breaker_changed(slot, from, why, by);
	}
	LWLockRelease(notif_shared->lane_lock);
	breaker_wake();
}

/* ---- pacers ------------------------------------------------------------------------------------ */

NotifPacerRef
notif_pacer_find(int provider, const NotifPacerLimits *limits)
{
	NotifPacerRef ref = {.provider = provider};
	Oid			extension = get_extension_oid(NOTIF_EXTENSION, true);
	int64		now_us = notif_lane_now_us();
	NotifPacerSlot *slot;
	bool		fresh;

	LWLockAcquire(notif_shared->lane_lock, LW_EXCLUSIVE);
	slot = lane_slot_find(LANES->pacers, sizeof(NotifPacerSlot), NOTIF_MAX_PACERS, extension, provider, 0, &fresh);
	if (fresh)
	{
		for (int tier = 0; tier < NOTIF_TIERS; tier++)
			pg_atomic_write_u32(&slot->in_flight[tier], 0);
		notif_pacer_init(&slot->core, now_us);
	}
	ref.slot = slot;
	if (slot->core.limits.rate != limits->rate || slot->core.limits.burst != limits->burst ||
		slot->core.limits.max_in_flight != limits->max_in_flight)
		notif_pacer_limit(&slot->core, limits, now_us);
	LWLockRelease(notif_shared->lane_lock);
	return ref;
}

static NotifPacerSlot *
pacer_lock(NotifPacerRef ref, LWLockMode mode)
{
	return ref.slot != NULL && lane_slot_lock(&ref.slot->key, ref.provider, 0, mode) ? ref.slot : NULL;
}

void
notif_pacer_forget(Oid dboid, int tier)
{
	LWLockAcquire(notif_shared->lane_lock, LW_EXCLUSIVE);
	for (int i = 0; i < NOTIF_MAX_PACERS; i++)
	{
		if (LANES->pacers[i].key.dboid == dboid)
			pg_atomic_write_u32(&LANES->pacers[i].in_flight[tier], 0);
	}
	LWLockRelease(notif_shared->lane_lock);
}

static int
pacer_in_flight(NotifPacerSlot *slot)
{
	uint32		sum = 0;

	for (int tier = 0; tier < NOTIF_TIERS; tier++)
		sum += pg_atomic_read_u32(&slot->in_flight[tier]);
	return (int) sum;
}

int
notif_pacer_take(NotifPacerRef ref, int tier, int wanted)
{
	NotifPacerSlot *slot = pacer_lock(ref, LW_EXCLUSIVE);
	int			n;

	if (slot == NULL)
		return wanted;
	n = notif_pacer_grant(&slot->core, notif_lane_now_us(), tier, pacer_in_flight(slot), wanted);
	pg_atomic_fetch_add_u32(&slot->in_flight[tier], (uint32) n);
	LWLockRelease(notif_shared->lane_lock);
	return n;
}

void
notif_pacer_used(NotifPacerRef ref, int tier, int granted, int sent)
{
	NotifPacerSlot *slot = pacer_lock(ref, LW_EXCLUSIVE);

	if (slot == NULL)
		return;
	notif_pacer_settle(&slot->core, notif_lane_now_us(), granted, sent);
	pg_atomic_fetch_sub_u32(&slot->in_flight[tier], granted - sent);
	LWLockRelease(notif_shared->lane_lock);
}

void
notif_pacer_ended(NotifPacerRef ref, int tier)
{
	if (ref.slot != NULL && pg_atomic_read_u32(&ref.slot->in_flight[tier]) > 0)
		pg_atomic_fetch_sub_u32(&ref.slot->in_flight[tier], 1);
}

int64
notif_pacer_delay_us(NotifPacerRef ref, int tier, int wanted)
{
	NotifPacerSlot *slot = pacer_lock(ref, LW_SHARED);
	int64		wait;

	if (slot == NULL)
		return 0;
	wait = notif_pacer_wait_us(&slot->core, notif_lane_now_us(), tier, pacer_in_flight(slot), wanted);
	LWLockRelease(notif_shared->lane_lock);
	return wait;
}

bool
notif_pacer_slow_down(NotifPacerRef ref, int64 sent_us, int retry_after_s)
{
	NotifPacerSlot *slot = pacer_lock(ref, LW_EXCLUSIVE);
	bool		begun;

	if (slot == NULL)
		return false;
	begun = notif_pacer_throttle(&slot->core, notif_lane_now_us(), sent_us, retry_after_s);
	LWLockRelease(notif_shared->lane_lock);
	return begun;
}
