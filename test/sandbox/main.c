/*
 * main.c
 *		notif-sandbox: an APNs that runs on this machine and keeps books.
 *
 * Starts the parts in order and announces the ports in DIR/ports, written
 * under another name and renamed, so that a reader sees a whole file or none.
 */
#include "sandbox.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

SbState		sb;

static void
main_stop(int signo)
{
	(void) signo;
	sb.stop = true;
}

static void
main_signals(void)
{
	struct sigaction stop = {.sa_handler = main_stop};
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static void
main_announce(void)
{
	char		path[4096];
	char		temp[4096];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/ports", sb.opt.dir);
	snprintf(temp, sizeof(temp), "%s/ports.new", sb.opt.dir);
	file = fopen(temp, "we");
	if (file == NULL)
		sb_die("cannot create \"%s\": %m", temp);
	fprintf(file, "apns=%d\ncontrol=%d\npid=%ld\n", sb.apns_port, sb.control_port,
			(long) getpid());
	if (fclose(file) != 0 || rename(temp, path) != 0)
		sb_die("cannot write \"%s\": %m", path);
}

int
main(int argc, char **argv)
{
	char		path[4096];

	sb_options_parse(argc, argv, &sb.opt);
	main_signals();
	sb_keys_ensure(&sb.opt);
	/* a file left by an earlier run would announce ports nobody serves */
	snprintf(path, sizeof(path), "%s/ports", sb.opt.dir);
	unlink(path);
	sb_jwt_init(sb_keys_load_public(&sb.opt));
	sb_fault_init();
	sb_ledger_open();
	sb_h2_init();
	sb_conn_init();
	sb_loop_init();
	main_announce();
	sb_loop_run();
	unlink(path);
	return 0;
}
