/*
 * starts.c
 *		Which starts of workers ended in a crash of the server.
 *
 * A crash cycle forgets everything in shared memory, the postmaster's own times
 * of crashes included: a worker that dies at each start would take the server
 * down as fast as that can recover.  So the launcher keeps, for each slot, the
 * number of starts in a row that were not finished, in a small file of the data
 * directory: counted up before a start, cleared when the worker has shown that it
 * lives (notif_worker_settled) or has ended in an orderly way.
 *
 * The first start after a crash is not delayed: most crashes are somebody else's
 * and do not come again.  From the second on a slot waits 1 to 60 s, and of those
 * that wait one starts at a time, so that the next crash, if there is one, is
 * laid at the right door.
 *
 * The file is only a memory aid: it is not flushed, one that cannot be read
 * counts for nothing, and an orderly end of the server removes it.
 *
 *		1 0 2 shop			database slots' names may hold blanks: they come last
 */
#include "postgres.h"

#include <unistd.h>

#include "storage/fd.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "worker.h"

#define STARTS_FILE			"notif.starts"
#define STARTS_FREE			1	/* unfinished starts that cost nothing */
#define STARTS_PAUSE_MS		1000
#define STARTS_PAUSE_MAX_MS	60000
#define STARTS_PATIENCE_MS	5000	/* a suspect that does neither settle nor die */

/* As they are in the file; -1: not known. */
static int	written[NOTIF_MAX_DATABASES][NOTIF_WORKERS_PER_DB];
static bool written_known = false;

static void starts_write(void);

void
notif_starts_load(void)
{
	FILE	   *file;
	char		line[NAMEDATALEN + 64];

	written_known = false;
	if (notif_shared->starts_loaded)
		return;
	notif_shared->starts_loaded = true;
	file = AllocateFile(STARTS_FILE, "r");
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		int			index;
		int			n;
		int			at = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%d %d %n", &index, &n, &at) != 2 || at == 0 ||
			index < 0 || index >= NOTIF_WORKERS_PER_DB || n < 0 || n > 1000000)
			continue;
		LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
		for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
		{
			NotifDatabaseSlot *database = &notif_shared->databases[d];
			NotifWorkerSlot *slot = &database->workers[index];

			if (!database->in_use || strcmp(database->name, line + at) != 0)
				continue;
			slot->crashes = n;
			if (n > STARTS_FREE)
			{
				slot->last_error_at = GetCurrentTimestamp();
				snprintf(slot->last_error, sizeof(slot->last_error),
						 "%d starts in a row ended in a crash of the server", n);
			}
		}
		LWLockRelease(notif_shared->lock);
	}
	FreeFile(file);
}

int64
notif_starts_pause_ms(const NotifWorkerSlot *slot)
{
	int			beyond = slot->crashes - STARTS_FREE;

	if (beyond <= 0)
		return 0;
	return Min((int64) STARTS_PAUSE_MS << Min(beyond - 1, 6), STARTS_PAUSE_MAX_MS);
}

/* A suspect is on trial: it counts its start, and has not settled. */
bool
notif_starts_trial(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		found = false;

	LWLockAcquire(notif_shared->lock, LW_SHARED);
	for (int d = 0; d < NOTIF_MAX_DATABASES && !found; d++)
	{
		for (int i = 0; i < NOTIF_WORKERS_PER_DB && !found; i++)
		{
			const NotifWorkerSlot *slot = &notif_shared->databases[d].workers[i];

			found = notif_shared->databases[d].in_use && slot->crashes > STARTS_FREE + 1 &&
				(slot->state == NOTIF_STATE_STARTING ||
				 (slot->state == NOTIF_STATE_RUNNING &&
				  !TimestampDifferenceExceeds(slot->started_at, now, STARTS_PATIENCE_MS)));
		}
	}
	LWLockRelease(notif_shared->lock);
	return found;
}

void
notif_starts_begin(NotifWorkerSlot *slot)
{
	LWLockAcquire(notif_shared->lock, LW_EXCLUSIVE);
	slot->crashes++;
	LWLockRelease(notif_shared->lock);
	notif_starts_keep();
}

void
notif_starts_keep(void)
{
	bool		same = written_known;

	for (int d = 0; d < NOTIF_MAX_DATABASES; d++)
	{
		const NotifDatabaseSlot *database = &notif_shared->databases[d];

		for (int i = 0; i < NOTIF_WORKERS_PER_DB; i++)
		{
			/* read without the lock: what is missed wakes us again */
			int			n = database->in_use ? database->workers[i].crashes : 0;

			same = same && written[d][i] == n;
			written[d][i] = n;
		}
	}
	if (!same)
		starts_write();
}

static void
starts_write(void)
{
	static bool complained = false;
	FILE	   *file = AllocateFile(STARTS_FILE ".tmp", "w");
	bool		ok = file != NULL;

	for (int d = 0; ok && d < NOTIF_MAX_DATABASES; d++)
	{
		for (int i = 0; ok && i < NOTIF_WORKERS_PER_DB; i++)
		{
			/* a name that breaks the line is none that is remembered */
			if (written[d][i] > 0 && strchr(notif_shared->databases[d].name, '\n') == NULL)
				ok = fprintf(file, "%d %d %s\n", i, written[d][i], notif_shared->databases[d].name) > 0;
		}
	}
	if (file != NULL)
		ok = FreeFile(file) == 0 && ok;
	written_known = ok && rename(STARTS_FILE ".tmp", STARTS_FILE) == 0;
	if (!written_known && !complained)
	{
		complained = true;
		ereport(LOG,
				errcode_for_file_access(),
				errmsg("notif could not write file \"%s\": %m", STARTS_FILE),
				errdetail("Workers that crash the server at their start will not be delayed."));
	}
}

void
notif_starts_forget(void)
{
	(void) unlink(STARTS_FILE);
}
