/*
 * instance.c
 *		Who this installation is.
 *
 * A restored dump, a copied data directory or a cloned machine must not send
 * what the original sends.  The identity that upkeep compares with the stored
 * one is made of what changes in those cases: the system identifier (dump and
 * restore, pg_upgrade, a new initdb), the machine (copy to another host),
 * device and inode of the data directory (copy on the same host), the
 * database (restored beside the original, or made from it as a template) and
 * the timeline (recovery to a point in time, into the same directory even).  A
 * byte-exact clone of the whole machine keeps all of them, as does a snapshot
 * of the file system rolled back; for these there is
 * notif.instance_guard = confirm.
 *
 * SQL-callable: notif_identity() text, notif_watched_promotion() boolean.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "notif.h"
#include "shmem.h"

#define MACHINE_ID_MAX 64

PG_FUNCTION_INFO_V1(notif_identity);
PG_FUNCTION_INFO_V1(notif_system_id);
PG_FUNCTION_INFO_V1(notif_watched_promotion);

static void instance_read_machine_id(char *machine, size_t size);

/*
 * 'sysid:machine:device:inode:database:timeline'; the machine is '-' where the
 * system has no machine id, which then simply does not take part.  The timeline is
 * 0 during recovery, which is not over yet.
 */
Datum
notif_identity(PG_FUNCTION_ARGS)
{
	char		machine[MACHINE_ID_MAX + 1];
	struct stat st;

	if (stat(DataDir, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat the data directory: %m")));
	instance_read_machine_id(machine, sizeof(machine));

	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT ":%s:%llu:%llu:%u:%u",
											  GetSystemIdentifier(), machine,
											  (unsigned long long) st.st_dev,
											  (unsigned long long) st.st_ino,
											  MyDatabaseId,
											  RecoveryInProgress() ? 0 : GetWALInsertionTimeLine())));
}

/* Its first part alone, without asking the operating system: for hot paths. */
Datum
notif_system_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT, GetSystemIdentifier())));
}

/* The first word of /etc/machine-id, letters and digits only. */
static void
instance_read_machine_id(char *machine, size_t size)
{
	int			fd;
	ssize_t		n = 0;
	size_t		len = 0;

	fd = OpenTransientFile("/etc/machine-id", O_RDONLY | PG_BINARY);
	if (fd >= 0)
	{
		n = read(fd, machine, size - 1);
		CloseTransientFile(fd);
	}
	while (n > 0 && len < (size_t) n &&
		   strchr("0123456789abcdefABCDEF-", machine[len]) != NULL && machine[len] != '\0')
		len++;
	machine[len] = '\0';
	if (len == 0)
		strlcpy(machine, "-", size);
}

/*
 * Whether the launcher saw this very server as a standby since shared memory
 * was made: then it was promoted under our eyes and is not a restored copy.
 */
Datum
notif_watched_promotion(PG_FUNCTION_ARGS)
{
	bool		watched = false;

	if (notif_shared != NULL)
	{
		LWLockAcquire(notif_shared->lock, LW_SHARED);
		watched = notif_shared->watched_standby;
		LWLockRelease(notif_shared->lock);
	}
	PG_RETURN_BOOL(watched && !RecoveryInProgress());
}
