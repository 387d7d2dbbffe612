/*
 * sandbox.h
 *		Shared declarations of notif-sandbox, the stand-in for APNs.
 *
 * The program is one thread around one epoll descriptor.  A turn of the loop
 * reads from every ready connection, judges each complete request, appends
 * its ledger line to a buffer and hands the answer to nghttp2; at the end of
 * the turn the ledger goes to the file in one write, and only then do answers
 * go to the sockets.  So a client never holds an answer whose line could
 * still be lost with this process.
 *
 * Nothing here is shared with the product's client code: a misunderstanding
 * of the contract must not be able to hide on both sides.
 *
 * Prefixes: functions sb_<module>_<verb>, statics <module>_<verb>.
 */
#ifndef NOTIF_SANDBOX_H
#define NOTIF_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nghttp2/nghttp2.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#define SB_MAX_TOPICS		16
#define SB_MAX_TOKEN		200		/* hex digits of a device token kept */
#define SB_MAX_FIELD		128		/* topic, push type, collapse id kept */
#define SB_MAX_JWT			768		/* longest authorization value looked at */
#define SB_MAX_BODY			5120	/* the largest payload any push type allows */
#define SB_FOREVER			(-1)	/* a count that never runs out */

/* ---- util.c ---- */

typedef struct SbBuf
{
	char	   *data;
	size_t		len;
	size_t		cap;
} SbBuf;

extern void sb_die(const char *fmt,...) __attribute__((format(printf, 1, 2), noreturn));
extern void *sb_alloc(size_t size);
extern void *sb_realloc(void *ptr, size_t size);
extern void sb_buf_reserve(SbBuf *buf, size_t more);
extern void sb_buf_put(SbBuf *buf, const void *data, size_t len);
extern void sb_buf_puts(SbBuf *buf, const char *text);
extern void sb_buf_putc(SbBuf *buf, char c);
extern void sb_buf_putu(SbBuf *buf, uint64_t value);
extern void sb_buf_putf(SbBuf *buf, const char *fmt,...) __attribute__((format(printf, 2, 3)));
extern uint64_t sb_hash(const void *data, size_t len);
extern int64_t sb_now_us(void);		/* wall clock */
extern int64_t sb_mono_us(void);	/* for time-outs */
extern bool sb_uuid_parse(const char *text, size_t len, uint8_t out[16]);
extern void sb_uuid_random(uint8_t id[16]);
extern void sb_uuid_format(const uint8_t id[16], char out[36]);
extern bool sb_parse_int(const char *text, size_t len, int64_t *out);
extern size_t sb_copy(char *dst, size_t size, const char *src, size_t len);

/* ---- options.c ---- */

typedef struct SbOptions
{
	const char *dir;
	int			port;
	int			control_port;
	int			streams;		/* N of the 1 -> N ramp */
	const char *team;
	const char *key_id;
	const char *topics[SB_MAX_TOPICS];
	int			ntopics;
	const char *public_key;		/* file, or NULL for the generated pair */
	bool		mode_group;
	bool		ledger_fsync;
	bool		log_bodies;
	bool		strict_json;
	bool		no_ramp;
	int			token_update_min_s;
	int			token_hex_max;
	int			idle_timeout_s;
	int			conn_window;
	int64_t		max_ids;
} SbOptions;

extern void sb_options_parse(int argc, char **argv, SbOptions *opt);

/* ---- keys.c ---- */

extern void sb_keys_ensure(const SbOptions *opt);
extern EVP_PKEY *sb_keys_load_public(const SbOptions *opt);

/* ---- jwt.c ---- */

typedef enum SbJwtVerdict
{
	SB_JWT_OK,
	SB_JWT_MISSING,
	SB_JWT_INVALID
} SbJwtVerdict;

typedef struct SbJwtInfo
{
	int64_t		iat;			/* unix seconds */
	int64_t		seen_us;		/* wall clock of the first verification */
} SbJwtInfo;

extern void sb_jwt_init(EVP_PKEY *key);
extern SbJwtVerdict sb_jwt_check(const char *value, size_t len, SbJwtInfo *info);
extern uint64_t sb_jwt_verified(void);
extern uint64_t sb_jwt_distinct(void);

/* ---- tokens.c ---- */

typedef enum SbTokenState
{
	SB_TOKEN_OK,
	SB_TOKEN_DEAD,
	SB_TOKEN_EXPIRED,
	SB_TOKEN_WRONG,
	SB_TOKEN_MISMATCH,
	SB_TOKEN_THROTTLED
} SbTokenState;

typedef struct SbToken
{
	SbTokenState state;
	int64_t		timestamp_ms;	/* of 410 */
	char		topic[SB_MAX_FIELD];	/* the only one allowed, or empty */
} SbToken;

extern void sb_tokens_set(const char *hex, size_t len, const SbToken *token);
extern const SbToken *sb_tokens_find(const char *hex, size_t len);
extern void sb_tokens_clear(void);
extern uint64_t sb_tokens_count(void);

/* ---- idset.c ---- */

/* Number of earlier appearances of the id; the id is added.  -1: table full. */
extern int64_t sb_idset_add(const uint8_t id[16], int64_t offset);
extern void sb_idset_prefetch(const uint8_t id[16]);
extern bool sb_idset_find(const uint8_t id[16], int64_t *offset, uint32_t *count);
extern void sb_idset_clear(void);
extern uint64_t sb_idset_count(void);

/* ---- connections and streams ---- */

struct SbConn;

/*
 * First member of whatever epoll points at, so that the loop can tell them
 * apart.
 */
typedef enum SbWatchKind
{
	SB_WATCH_APNS_LISTENER,
	SB_WATCH_CONTROL_LISTENER,
	SB_WATCH_APNS,
	SB_WATCH_CONTROL
} SbWatchKind;

typedef struct SbWatch
{
	SbWatchKind kind;
	int			fd;
} SbWatch;

typedef enum SbHeader
{
	SB_H_METHOD = 1 << 0,
	SB_H_PATH = 1 << 1,
	SB_H_AUTH = 1 << 2,
	SB_H_ID = 1 << 3,
	SB_H_TOPIC = 1 << 4,
	SB_H_TYPE = 1 << 5,
	SB_H_PRIORITY = 1 << 6,
	SB_H_EXPIRATION = 1 << 7,
	SB_H_COLLAPSE = 1 << 8,
	SB_H_CONTENT_TYPE = 1 << 9
} SbHeader;

typedef enum SbPath
{
	SB_PATH_DEVICE,
	SB_PATH_NO_TOKEN,
	SB_PATH_BAD
} SbPath;

typedef enum SbAuthKind
{
	SB_AUTH_NONE,
	SB_AUTH_CURRENT,			/* the connection's token, byte for byte */
	SB_AUTH_PREVIOUS,			/* the one before it */
	SB_AUTH_OTHER				/* kept in auth_text for the judgement */
} SbAuthKind;

typedef enum SbWait
{
	SB_WAIT_NONE,
	SB_WAIT_HANG,				/* accepted, answer withheld until released */
	SB_WAIT_DELAY,				/* answer due at due_us */
	SB_WAIT_DRIP,				/* body byte due at due_us */
	SB_WAIT_GOAWAY				/* unprocessed: behind a coming GOAWAY */
} SbWait;

typedef struct SbAnswer
{
	int			status;
	const char *reason;			/* NULL on 200 */
	int64_t		timestamp_ms;	/* 410 only, else 0 */
} SbAnswer;

typedef struct SbStream
{
	struct SbConn *conn;
	struct SbStream *next;		/* wait list, or free list */
	struct SbStream *prev;
	struct SbStream *conn_next; /* streams of the connection */
	struct SbStream *conn_prev;
	SbWait		wait;
	int64_t		due_us;			/* monotonic */
	int32_t		id;
	unsigned	headers;		/* SbHeader bits seen */
	bool		duplicate_header;
	bool		refused;		/* reset at its headers; ignore the rest */
	bool		processed;
	bool		is_post;
	SbPath		path;
	SbAuthKind	auth;
	SbJwtVerdict auth_verdict;	/* of SB_AUTH_OTHER */
	SbJwtInfo	auth_info;
	bool		bad_id;
	bool		bad_collapse;
	int64_t		priority;
	bool		bad_priority;
	bool		bad_expiration;
	size_t		token_len;
	size_t		topic_len;
	size_t		type_len;
	size_t		collapse_len;
	size_t		auth_len;
	size_t		body_len;		/* received, may exceed what is kept */
	uint8_t		id_bin[16];
	char		id_text[36];
	SbAnswer	answer;
	size_t		answer_len;		/* bytes of answer_body */
	size_t		answer_off;
	size_t		answer_ready;	/* bytes that may be sent (drip) */
	bool		answer_end;		/* END_STREAM may be sent */
	char		answer_status[4];
	char		answer_retry[48];	/* header value, or empty */
	char		answer_body[160];
	char		token[SB_MAX_TOKEN];
	char		topic[SB_MAX_FIELD];
	char		type[SB_MAX_FIELD];
	char		collapse[SB_MAX_FIELD];
	char		auth_text[SB_MAX_JWT];
	char		body[SB_MAX_BODY];
} SbStream;

typedef struct SbConn
{
	SbWatch		watch;			/* must be first */
	struct SbConn *next;
	struct SbConn *prev;
	struct SbConn *next_dirty;
	uint64_t	number;			/* of the ledger */
	SSL		   *ssl;
	nghttp2_session *session;
	bool		handshaken;
	bool		dirty;			/* on the dirty list */
	bool		again;			/* unread input may be left in OpenSSL */
	bool		dead;			/* freed at the end of the turn */
	bool		cut;			/* close after flushing, take nothing more */
	bool		finished;		/* the session has nothing more to say */
	bool		lingering;		/* closed for writing, input discarded */
	int64_t		linger_due_us;
	bool		want_write;
	bool		cert_auth;		/* a client certificate was shown */
	bool		cert_bad;		/* and does not verify */
	char		cert_topic[SB_MAX_FIELD];
	bool		ramped;
	bool		throttled;		/* limit lowered after an error */
	bool		expired;		/* said ExpiredProviderToken once */
	SbStream   *streams;
	int			open_streams;
	int32_t		last_begun;		/* highest stream id begun */
	int32_t		last_processed;
	int64_t		last_active_us;
	/* GOAWAY in preparation or sent */
	bool		goaway_sent;
	int32_t		goaway_last;
	int			withheld;		/* streams kept back for it */
	int			withhold_target;
	int64_t		withhold_due_us;
	bool		violated;
	/* provider tokens of this connection */
	size_t		auth_len;
	char		auth_text[SB_MAX_JWT];
	SbJwtInfo	auth_info;
	int64_t		auth_since_us;	/* monotonic, first use here */
	size_t		prev_len;
	char		prev_text[SB_MAX_JWT];
	SbJwtInfo	prev_info;
	SbBuf		out;
	size_t		out_off;
} SbConn;

/* ---- fault.c ---- */

typedef enum SbGoawayMode
{
	SB_GOAWAY_NONE,
	SB_GOAWAY_MINUS,			/* arg streams withheld; 0 = current */
	SB_GOAWAY_NUMBER
} SbGoawayMode;

typedef struct SbFaults
{
	SbGoawayMode goaway;
	int64_t		goaway_arg;
	int64_t		goaway_count;
	int64_t		goaway_code;
	char		goaway_reason[64];
	int64_t		refused_stream;
	int64_t		rst_code;
	int64_t		rst_count;
	int64_t		max_streams;	/* -1: as the options say */
	int64_t		status;			/* 0: off */
	int64_t		status_count;
	int64_t		status_timestamp_ms;
	char		retry_after[48];	/* header value, or empty */
	char		location[128];	/* header value, or empty */
	char		status_reason[64];
	char		status_body[160];	/* instead of the JSON, if not empty */
	int64_t		fraction;		/* per cent x 100; 10000 = everybody */
	bool		hang;
	int64_t		delay_us;
	int64_t		cut_after_headers;
	int64_t		cut_after_data;
	int64_t		slow_body_us;
	int64_t		jwt_expired_us;	/* wall clock of the switch, 0 = off */
	int64_t		window;			/* -1: as protocol default */
	bool		no_ping_reply;
	bool		throttle_on_error;
	bool		no_ramp;
	int64_t		idle_timeout_us;
	uint64_t	applied;		/* per-request faults that struck */
} SbFaults;

extern void sb_fault_init(void);
extern bool sb_fault_set(const char *key, const char *value, SbBuf *err);
extern void sb_fault_clear(void);
extern bool sb_fault_hits(const SbStream *s);
extern bool sb_fault_spend(int64_t *count);
extern void sb_fault_describe(SbBuf *out);

/* ---- goaway.c ---- */

extern bool sb_goaway_request(SbConn *c, SbStream *s);
extern void sb_goaway_now(SbConn *c, const char *reason);
extern void sb_goaway_release(SbConn *c);
extern void sb_goaway_fire(SbConn *c, int32_t last, const char *reason);

/* ---- wait.c ---- */

extern void sb_wait_add(SbStream *s, SbWait kind, int64_t due_us);
extern void sb_wait_remove(SbStream *s);
extern int64_t sb_wait_next_due(void);
extern void sb_wait_run(int64_t now_us);
extern void sb_wait_release_hung(bool answer);
extern SbStream *sb_wait_first_withheld(const SbConn *c);
extern uint64_t sb_wait_hung(void);

/* ---- apns.c ---- */

extern void sb_apns_header(SbConn *c, SbStream *s, const uint8_t *name, size_t namelen,
						   const uint8_t *value, size_t valuelen);
extern void sb_apns_judge(SbConn *c, SbStream *s, SbAnswer *answer);
extern const char *sb_apns_reason(const char *text);

/* ---- request.c ---- */

extern void sb_request_complete(SbConn *c, SbStream *s);
extern void sb_request_process(SbConn *c, SbStream *s);
extern void sb_request_answer(SbConn *c, SbStream *s);
extern void sb_request_drip(SbStream *s);
extern int sb_request_limit(const SbConn *c);
extern void sb_request_send_limit(SbConn *c);

/* ---- ledger.c ---- */

extern void sb_ledger_open(void);
extern void sb_ledger_accepted(const SbConn *c, const SbStream *s, int status, int64_t now_us);
extern void sb_ledger_refused(const SbConn *c, const SbStream *s, int64_t now_us);
extern void sb_ledger_flush(void);
extern void sb_ledger_reset(void);
extern void sb_ledger_find(const uint8_t id[16], SbBuf *out);

/* ---- h2.c ---- */

extern void sb_h2_init(void);
extern void sb_h2_open(SbConn *c);
extern void sb_h2_failed(SbConn *c);
extern void sb_h2_close(SbConn *c);

/* ---- conn.c ---- */

extern void sb_conn_init(void);
extern bool sb_conn_tls(const char *kind);
extern void sb_conn_accept(int fd);
extern void sb_conn_readable(SbConn *c);
extern void sb_conn_mark(SbConn *c);
extern void sb_conn_flush(SbConn *c);
extern void sb_conn_sweep(void);
extern void sb_conn_kill(SbConn *c);

/* ---- loop.c ---- */

extern void sb_loop_init(void);
extern void sb_loop_run(void);
extern void sb_loop_accept(const char *mode);
extern void sb_loop_watch(SbWatch *watch, uint32_t events, bool add);

/* ---- stats.c, control.c ---- */

typedef struct SbStats
{
	uint64_t	received;		/* complete requests */
	uint64_t	accepted;		/* 200 */
	uint64_t	withheld;		/* ledger status 0 */
	uint64_t	refused;
	uint64_t	duplicates;
	uint64_t	ids_untracked;
	uint64_t	bad_json;
	uint64_t	violations;		/* stream limit */
	uint64_t	goaways;
	uint64_t	resets;
	uint64_t	cuts;
	uint64_t	pings;
	uint64_t	tls_errors;
	uint64_t	connections;	/* ever */
	uint64_t	open_connections;
	uint64_t	open_streams;
	uint64_t	peak_streams;
} SbStats;

extern void sb_stats_request(int64_t now_us);
extern void sb_stats_reason(int status, const char *reason);
extern void sb_stats_reset(void);
extern void sb_stats_json(SbBuf *out);

extern void sb_control_accept(int fd);
extern void sb_control_ready(SbWatch *watch);
extern void sb_control_finish(void);

/* ---- the one state ---- */

typedef struct SbState
{
	SbOptions	opt;
	SbFaults	fault;
	SbStats		stats;
	SbConn	   *conns;			/* open ones, newest first */
	SbConn	   *dirty;
	int			apns_port;
	int			control_port;
	int64_t		request_us;		/* wall clock of the request being judged */
	bool		again;			/* some connection has input left to read */
	volatile bool stop;
} SbState;

extern SbState sb;

#endif
