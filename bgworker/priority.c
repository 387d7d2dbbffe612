/*
 * priority.c
 *		A broadcast takes all the processor time that it can get, and on a
 *		machine whose cores are busy a critical message, and whoever publishes,
 *		then waits for the scheduler at each of the five or six times that it
 *		sleeps.  So the workers of the bulk tier are "nice": they get what others
 *		leave, or a fixed small part if these leave nothing.  figures:
 *		docs/performance.md
 *
 *		Niceness alone does nothing on a Linux with automatic task groups
 *		(sched(7)): each server process is a session of its own, so a group of
 *		its own, and only the group's niceness counts among groups.  It is set
 *		through /proc, where there is one.  An unprivileged process may raise
 *		both and lower neither, and the group's at most ten times a second in
 *		the whole system.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../src/settings.h"
#include "priority.h"

#define LOWEST_PRIORITY 19

/* EAGAIN: not now */
static int
set_group(int niceness)
{
	char		text[16];
	int			length = snprintf(text, sizeof(text), "%d\n", niceness);
	int			fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	int			error = 0;

	if (fd < 0)
		return 0;
	if (write(fd, text, length) != length)
		error = errno;
	close(fd);
	return error;
}

bool
notif_priority_mind(const NotifWorker *worker)
{
	static int	inherited = -1;
	static int	wanted = 0;		/* what was tried last */
	int			niceness;

	if (worker->tier != NOTIF_TIER_BULK || wanted == guc_bulk_nice)
		return true;
	if (inherited < 0)
		inherited = Max(getpriority(PRIO_PROCESS, 0), 0);
	niceness = Min(inherited + guc_bulk_nice, LOWEST_PRIORITY);

	/* a refusal to go back is no fault: the setting says that it needs a new process */
	(void) setpriority(PRIO_PROCESS, 0, niceness);
	if (set_group(niceness) == EAGAIN)
		return false;
	wanted = guc_bulk_nice;
	return true;
}
