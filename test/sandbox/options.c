/*
 * options.c
 *		Command line of notif-sandbox.
 */
#include "sandbox.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum
{
	OPT_DIR = 256, OPT_PORT, OPT_CONTROL_PORT, OPT_STREAMS, OPT_TEAM, OPT_KEY_ID, OPT_TOPIC,
	OPT_PUBLIC_KEY, OPT_MODE_GROUP, OPT_LEDGER_FSYNC, OPT_LOG_BODIES, OPT_STRICT_JSON,
	OPT_NO_RAMP, OPT_TOKEN_UPDATE_MIN_S, OPT_TOKEN_HEX_MAX, OPT_IDLE_TIMEOUT_S,
	OPT_CONN_WINDOW, OPT_MAX_IDS, OPT_HELP
};

static const struct option options_long[] = {
	{"dir", required_argument, NULL, OPT_DIR},
	{"port", required_argument, NULL, OPT_PORT},
	{"control-port", required_argument, NULL, OPT_CONTROL_PORT},
	{"streams", required_argument, NULL, OPT_STREAMS},
	{"team", required_argument, NULL, OPT_TEAM},
	{"key-id", required_argument, NULL, OPT_KEY_ID},
	{"topic", required_argument, NULL, OPT_TOPIC},
	{"public-key", required_argument, NULL, OPT_PUBLIC_KEY},
	{"mode-group", no_argument, NULL, OPT_MODE_GROUP},
	{"ledger-fsync", no_argument, NULL, OPT_LEDGER_FSYNC},
	{"log-bodies", no_argument, NULL, OPT_LOG_BODIES},
	{"strict-json", no_argument, NULL, OPT_STRICT_JSON},
	{"no-ramp", no_argument, NULL, OPT_NO_RAMP},
	{"token-update-min-s", required_argument, NULL, OPT_TOKEN_UPDATE_MIN_S},
	{"token-hex-max", required_argument, NULL, OPT_TOKEN_HEX_MAX},
	{"idle-timeout-s", required_argument, NULL, OPT_IDLE_TIMEOUT_S},
	{"conn-window", required_argument, NULL, OPT_CONN_WINDOW},
	{"max-ids", required_argument, NULL, OPT_MAX_IDS},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0}
};

static void
options_usage(FILE *to)
{
	fputs("usage: notif-sandbox --dir DIR [options]\n"
		  "  --port N --control-port N    0 (default) takes a free one; see DIR/ports\n"
		  "  --streams N                  MAX_CONCURRENT_STREAMS once authenticated (1000)\n"
		  "  --no-ramp                    announce N at once, for load tools that ignore SETTINGS\n"
		  "  --team T --key-id K          who may sign (TEAM123456, KEY1234567)\n"
		  "  --topic BUNDLE               allowed bundle id, repeatable (com.example.shop)\n"
		  "  --public-key FILE            PEM key to verify with instead of DIR/apns_key.pub\n"
		  "  --mode-group                 key files 0640 instead of 0600\n"
		  "  --ledger-fsync               fdatasync the ledger before answering\n"
		  "  --log-bodies                 body as last column of the ledger\n"
		  "  --strict-json                refuse bodies that are not JSON objects\n"
		  "  --token-update-min-s S       shortest time between tokens of a connection (1200)\n"
		  "  --token-hex-max N            longest device token in hex digits (64)\n"
		  "  --idle-timeout-s S           GOAWAY IdleTimeout after S idle seconds (0 = never)\n"
		  "  --conn-window N              connection flow-control window (1048576)\n"
		  "  --max-ids N                  apns-ids remembered for duplicates (8000000)\n", to);
}

static int64_t
options_number(const char *name, const char *text, int64_t min, int64_t max)
{
	int64_t		value;

	if (!sb_parse_int(text, strlen(text), &value) || value < min || value > max)
		sb_die("--%s: \"%s\" is not a number from %lld to %lld", name, text,
			   (long long) min, (long long) max);
	return value;
}

/* Fills *opt from argv; ends the program on a wrong command line. */
void
sb_options_parse(int argc, char **argv, SbOptions *opt)
{
	int			ch;
	int			index = 0;

	memset(opt, 0, sizeof(*opt));
	opt->streams = 1000;
	opt->team = "TEAM123456";
	opt->key_id = "KEY1234567";
	opt->token_update_min_s = 1200;
	opt->token_hex_max = 64;
	opt->conn_window = 1 << 20;
	opt->max_ids = 8000000;

	while ((ch = getopt_long(argc, argv, "", options_long, &index)) != -1)
	{
		const char *name = ch >= OPT_DIR ? options_long[index].name : "";

		switch (ch)
		{
			case OPT_DIR:
				opt->dir = optarg;
				break;
			case OPT_PORT:
				opt->port = (int) options_number(name, optarg, 0, 65535);
				break;
			case OPT_CONTROL_PORT:
				opt->control_port = (int) options_number(name, optarg, 0, 65535);
				break;
			case OPT_STREAMS:
				opt->streams = (int) options_number(name, optarg, 1, 1000000);
				break;
			case OPT_TEAM:
				opt->team = optarg;
				break;
			case OPT_KEY_ID:
				opt->key_id = optarg;
				break;
			case OPT_TOPIC:
				if (opt->ntopics == SB_MAX_TOPICS)
					sb_die("more than %d topics", SB_MAX_TOPICS);
				if (strlen(optarg) == 0 || strlen(optarg) > 96)
					sb_die("--topic must have 1 to 96 bytes");
				opt->topics[opt->ntopics++] = optarg;
				break;
			case OPT_PUBLIC_KEY:
				opt->public_key = optarg;
				break;
			case OPT_MODE_GROUP:
				opt->mode_group = true;
				break;
			case OPT_LEDGER_FSYNC:
				opt->ledger_fsync = true;
				break;
			case OPT_LOG_BODIES:
				opt->log_bodies = true;
				break;
			case OPT_STRICT_JSON:
				opt->strict_json = true;
				break;
			case OPT_NO_RAMP:
				opt->no_ramp = true;
				break;
			case OPT_TOKEN_UPDATE_MIN_S:
				opt->token_update_min_s = (int) options_number(name, optarg, 0, 86400);
				break;
			case OPT_TOKEN_HEX_MAX:
				opt->token_hex_max = (int) options_number(name, optarg, 64, SB_MAX_TOKEN);
				break;
			case OPT_IDLE_TIMEOUT_S:
				opt->idle_timeout_s = (int) options_number(name, optarg, 0, 86400);
				break;
			case OPT_CONN_WINDOW:
				opt->conn_window = (int) options_number(name, optarg, 65535, 1 << 30);
				break;
			case OPT_MAX_IDS:
				opt->max_ids = options_number(name, optarg, 1, 100000000);
				break;
			case OPT_HELP:
				options_usage(stdout);
				exit(0);
			default:
				options_usage(stderr);
				exit(2);
		}
	}
	if (opt->dir == NULL || optind != argc)
	{
		options_usage(stderr);
		exit(2);
	}
	if (opt->ntopics == 0)
		opt->topics[opt->ntopics++] = "com.example.shop";
}
