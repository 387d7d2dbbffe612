/*
 * dispatcher.h
 *		What the files of the dispatcher share.
 *
 * One dispatcher serves one tier of one database:
 *
 *		claim.c		takes attempts of a lane into a flight, commits, sends
 *		order.c		one at a time for each endpoint
 *		withdraw.c	gives back what somebody no longer wants
 *		fused.c		routes, too, in the critical tier
 *		record.c	writes what came back
 *		session.c	a provider account: credentials, token, connections
 *		lane_gate.c	whether and how fast a lane may ask its provider
 *		content.c	types and events as the provider renders them
 *		dispatcher.c	the loop that calls them
 *
 * Attempts live in memory from the claim's commit until their record has
 * committed.  No transaction is open while the network is served.
 */
#ifndef NOTIF_DISPATCHER_H
#define NOTIF_DISPATCHER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/uuid.h"

#include "../src/ids.h"
#include "../src/lane_shmem.h"
#include "../src/net/h2_pool.h"
#include "../src/provider/provider.h"
#include "router.h"
#include "worker.h"

typedef struct Dispatcher Dispatcher;

/* A claimed attempt reaches its first byte within this, or goes back. */
#define ORDER_WAIT_MS		1000

/* A batch that was taken to the wire together. */
typedef struct Flight
{
	int64		id;
	int			attempts;		/* in memory: their outcome is not recorded */
	int			recording;		/* of them in the record being written */
} Flight;

/* A provider account in use; shared by the lanes that it carries. */
typedef struct Session
{
	int			provider;		/* id of the provider's row */
	char		name[NOTIF_LANE_NAME];
	const NotifProviderOps *ops;
	NotifAccount *account;		/* NULL: unusable, see error */
	NotifH2Pool *pool;
	bool		token_auth;
	char	   *bearer;			/* "bearer" token, malloc'd; NULL: none yet */
	int64		issued_at;		/* its iat, UNIX seconds */
	uint32		bearer_number;	/* counts the bearers taken; Attempt.bearer_number */
	bool		bearer_refused; /* the provider called it expired */
	int64		parked_until_ms;	/* monotonic; nothing is claimed before */
	int			park_ms;		/* last pause, doubled by the next failure */
	uint64		fingerprint;	/* of definition and secrets */
	int			used;			/* by how many lanes, recounted at reload */
	int			in_flight;		/* requests that the pool holds */
	NotifPacerLimits limits;	/* as defined */
	NotifPacerRef pacer;
	int			unreported;		/* sent, not yet told to the pacer */
	NotifThrottleMeter meter;
	bool		slowed;			/* it asked for fewer requests, to be logged */
	int			slowed_s;		/* for how long, 0: not told */
	char		slowed_why[NOTIF_REASON_MAX];
	char		error[NOTIF_LANE_ERROR];
	char		reported[NOTIF_LANE_ERROR]; /* what the log was last told */
	int64		reported_ms;	/* monotonic, when; 0: nothing yet */
	Dispatcher *dispatcher;
	dlist_node	node;
} Session;

/* One route's queue within the tier. */
typedef struct Lane
{
	int			id;
	Session    *session;		/* NULL: no provider enabled */
	bool		hungry;			/* may have attempts to read */
	bool		due_unknown;	/* next_due must be read again */
	TimestampTz next_due;		/* of its schedule, notif.now(); DT_NOEND: none */
	int			in_flight;
	bool		present;		/* seen by the last reload */
	int			claim_failures; /* ERRORs in a row */
	int			record_failures;
	dlist_head	done;			/* attempts whose outcome is not recorded */
	int			n_done;
	int64		done_since_ms;	/* monotonic; of the oldest in done */

	/* lane_gate.c */
	NotifBreakerRef breaker;	/* with the provider of session */
	uint64		fingerprint;	/* of the session it was found for */
	uint64		open_epoch;		/* the last opening that was noticed */
	int			permits;		/* of the claim that goes on, for nobody yet */
	NotifPacerRef permits_pacer;	/* whose they are */
	uint64		epoch;			/* of the breaker, when they were given */
	dlist_node	node;
} Lane;

/* What a claim reads beside the attempt itself. */
typedef struct ClaimedText
{
	const char *address;
	const char *ref;
	const char *locale;
	const char *attributes;
} ClaimedText;

typedef struct Attempt
{
	pg_uuid_t	delivery;
	pg_uuid_t	event;
	int64		ord;
	int64		recipient;
	int64		endpoint;
	TimestampTz expires_at;
	TimestampTz charged_at;		/* when it passed the rate limits */
	int32		type_id;
	int16		attempt;
	int16		tries;
	bool		hold;			/* its category forbids sending twice */
	bool		ordered;		/* one at a time for its endpoint */
	const char *withdrawn;		/* why it goes back instead of to the wire: withdraw.c; NULL: it does not */
	bool		collapses;		/* has a collapse key: */
	int64		collapse;		/* its hash */
	bool		has_subject;	/* of source and thread: */
	int64		subject;
	int32		campaign;		/* 0: none */
	bool		conditional;	/* its event has a condition */
	Lane	   *lane;
	int			provider;		/* that it was sent through */
	Session    *session;		/* of it; only while on the wire */
	uint32		bearer_number;	/* with which of its bearers it was sent */

	/* of lane_gate.c */
	bool		permit;			/* holds one, not on the wire yet */
	NotifBreakerRef breaker;	/* that gave it, in its epoch */
	uint64		epoch;
	NotifPacerRef pacer;
	Flight	   *flight;

	/* of order.c, while ordered and not done */
	struct EndpointQueue *queue;	/* NULL: none */
	ClaimedText text;			/* a copy, while it waits; allocated in one piece */
	int64		claimed_ms;		/* monotonic */
	dlist_node	wait_node;		/* in Dispatcher.waiting or .ready */

	/* set when it is done */
	const char *verdict;		/* word that worker_record_* takes */
	int			status;
	int			latency_us;
	int			retry_after_s;
	int			retry_after_ms; /* added to it */
	int64		gone_at_ms;
	char		reason[NOTIF_REASON_MAX];
	char		ref[NOTIF_REASON_MAX];

	dlist_node	node;
} Attempt;

struct Dispatcher
{
	NotifWorker *worker;
	NotifLoop  *loop;
	NotifResolver *resolver;
	dlist_head	lanes;
	dlist_head	sessions;
	int			in_flight;
	int			n_done;
	int64		next_flight;
	bool		config_stale;
	int64		config_read_ms; /* monotonic */
	int			n_sessions;		/* in use */
	uint64		gate_changes;	/* notif_breaker_changes() that were dealt with */
	int64		gate_due_us;	/* from the last turn on, a breaker is due */

	/* claimed and not yet handed to the network: an ERROR returns them */
	dlist_head	claimed;
	List	   *flown;			/* claim.c: batches of a claim_fly */

	/* whose outcomes are being recorded, and how many of its oldest; an ERROR
	 * after the commit finds here what is done with */
	Lane	   *recording;
	int			n_recording;
	Lane	   *claiming;		/* an ERROR is on its account; NULL: none */

	/* ordered attempts that are claimed and wait for their turn: order.c */
	HTAB	   *queues;			/* of endpoints that have one in the air */
	dlist_head	waiting;		/* oldest first */
	dlist_head	ready;			/* whose turn it is */
	int			n_waiting;		/* in either list */

	uint64		optouts_seen;	/* of the database's: withdraw.c */
	uint32		checked_seen;	/* verdicts of conditions, likewise */

	dlist_head	free_attempts;
	NotifBuf	scratch;
	struct Content *content;
	struct Router *router;		/* NULL: a process of its own routes */
	bool		router_idle;	/* it wants its next step when woken */
	int64		routed_ms;		/* monotonic; of the last one */
};

/* dispatcher.c */
extern Attempt *attempt_new(Dispatcher *d);
extern void attempt_free(Dispatcher *d, Attempt *attempt);
/* Queues an attempt for the next record; verdict is a constant. */
extern void attempt_done(Dispatcher *d, Attempt *attempt, const char *verdict, const char *reason);

/* A definition or switch has changed since the lanes were read. */
extern bool dispatcher_config_invalid(void);

/* claim.c: true if it may have left attempts unread. Raises. */
extern bool dispatcher_claim(Dispatcher *d, Lane *lane, int limit);
/*
 * Takes what the router has expanded in this transaction (notif_private.attempt[],
 * and their lanes, int4[]) for a lane; true if something is to be sent, by
 * claim_flown after the commit.  Raises.
 */
extern bool claim_fly(Dispatcher *d, Lane *lane, Datum attempts, Datum lanes);
extern void claim_flown(Dispatcher *d);
/*
 * Renders and submits an attempt over its lane's session of now.  Whatever goes
 * wrong ends as an outcome of its own, never as an ERROR.
 */
extern void dispatcher_send(Dispatcher *d, Attempt *a, const ClaimedText *text);

/*
 * order.c: whether an attempt of Dispatcher.claimed may be sent at once.  If not, it
 * waits for its turn with a copy of text, or has been given back.  It leaves the
 * list in any case but an ERROR.
 */
extern void order_init(Dispatcher *d);
extern bool order_admit(Dispatcher *d, Attempt *a, const ClaimedText *text);
/* An attempt with a queue is done: the next one's turn, or nobody's. */
extern void order_ended(Dispatcher *d, Attempt *a);
/* The outcome of an attempt that still has a queue is on record. */
extern void order_recorded(Dispatcher *d, Attempt *a);
/* Sends those whose turn it is, gives back those that waited for too long. */
extern bool order_serve(Dispatcher *d);
/* Gives back all that wait: nothing more is sent. */
extern void order_give_back(Dispatcher *d);

/*
 * withdraw.c: marks what is claimed for people who have opted out since it was
 * looked last, and takes it back from the network's queues.  To be called before
 * anything may leave, with the attempt that is about to and is in no list, or NULL;
 * costs a read of shared memory while there is nothing new.
 */
extern void withdraw_init(Dispatcher *d);
extern void withdraw_look(Dispatcher *d, Attempt *a);

/* record.c: writes outcomes of a lane, the oldest that are done. Raises. */
extern void dispatcher_record(Dispatcher *d, Lane *lane);
/* Forgets what is being recorded: its outcomes have committed. */
extern void dispatcher_recorded(Dispatcher *d);
extern void dispatcher_recover(Dispatcher *d);
/* The type notif_private.attempt, looked up anew: the extension may be another. */
extern Oid	notif_attempt_type(void);

/*
 * fused.c: a dispatcher that is its tier's router as well.
 */
extern void fused_init(Dispatcher *d);
/* One step of the router; returns what NotifWorkerOps.work does.  Raises. */
extern long fused_turn(Dispatcher *d);

/* session.c */
extern void sessions_reload(Dispatcher *d);		/* in a transaction */
extern void session_free(Session *session);
/* Has credentials, and is not left alone for a while; NULL is not usable. */
extern bool session_usable(const Session *session);
/* How many requests may be taken now; opens nothing. */
extern int	session_capacity(Session *session);
/* A usable token, minted or taken over if needed; false: parked. Raises. */
extern bool session_ready(Dispatcher *d, Session *session);
extern void session_park(Session *session, int ms, const char *error);
/* The error becomes "reason: detail"; detail may be empty.  Never raises. */
extern void session_explain(Session *session, const char *reason, const char *detail);
/* Tells the log of errors that it has not been told of. */
extern void sessions_report(Dispatcher *d);
extern void session_result(void *pool_ud, void *request_ud, const NotifResult *result);

/* lane_gate.c */
extern void lane_gates_attach(Dispatcher *d);	/* in a transaction */
/* How many more attempts of the lane may go to the wire now, permits aside. */
extern int	lane_gate_room(const Dispatcher *d, const Lane *lane);
/* Until when it is useless to ask for that many permits; 0: it is not. */
extern long lane_gate_wait_ms(const Dispatcher *d, const Lane *lane, int wanted);
/* Nothing is wrong with the provider. */
extern bool lane_gate_closed(const Lane *lane);
/* Permits for a claim, 0 … wanted. */
extern int	lane_gate_take(Dispatcher *d, Lane *lane, int wanted);
/* One of them for an attempt, or one more: whether it has got it. */
extern bool lane_gate_hand(Dispatcher *d, Lane *lane, Attempt *a);
/* The claim is over: permits that no attempt has got go back. */
extern void lane_gate_settle(Dispatcher *d, Lane *lane);
/*
 * Whether an attempt may still be sent over the session with its permit: the
 * breaker may have opened since.
 */
extern bool lane_gate_admit(Dispatcher *d, Attempt *a, const Session *session);
/* It is on the wire; or it never will be, and its permit, if any, goes back. */
extern void lane_gate_sent(Attempt *a);
extern void lane_gate_unsent(Dispatcher *d, Attempt *a);
/*
 * Takes in a result; sets a->retry_after_s.  True if a failure is the provider's
 * alone, so that no attempt counts.
 */
extern bool lane_gate_result(Dispatcher *d, Attempt *a, const NotifResult *result, const NotifVerdict *verdict);
/* Once a turn, no transaction open.  Raises. */
extern void lane_gate_turn(Dispatcher *d);
/* Until when an open breaker keeps the lane from being read; 0: it does not. */
extern TimestampTz lane_gate_parked(const Lane *lane);

/* content.c */
typedef struct EventContent
{
	pg_uuid_t	id;				/* hash key */
	char		text[NOTIF_UUID_TEXT];
	bool		loaded;			/* false: there is no such event */
	NotifData  *data;
	char	   *collapse_key;	/* malloc'd or NULL */
	int64		time_s;
	bool		digest;			/* told by its type's digest_tmpl */
} EventContent;

typedef struct TypeContent
{
	int32		id;				/* hash key */
	char		name[128];
	bool		hold;
	bool		ordered;
	NotifMessageTemplate *tmpl; /* NULL: does not compile, see error */
	NotifMessageTemplate *digest_tmpl;	/* NULL: it tells no digests, or as above */
	const NotifProviderOps *ops;
	char		error[NOTIF_REASON_MAX];
} TypeContent;

extern struct Content *content_new(Dispatcher *d);
extern void content_forget_types(struct Content *content);
/* Loads what a batch needs; in the claim's transaction.  Raises. */
extern void content_load(struct Content *content, const NotifProviderOps *ops,
						 const pg_uuid_t *events, int n_events, const int32 *types, int n_types);
/* NULL: unknown. */
extern EventContent *content_event(struct Content *content, const pg_uuid_t *id);
extern TypeContent *content_type(struct Content *content, int32 id);

#endif							/* NOTIF_DISPATCHER_H */
