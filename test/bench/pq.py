"""As much of libpq as the benches need, through ctypes: no module to install.

Pg(conninfo) connects; rows(sql) and one(sql) run a statement and wait for it;
send(sql) and take() do the same in two steps, so that many connections can be
driven by one poll loop (fileno() is the socket).
"""
import ctypes
import ctypes.util
import select

_lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
_P, _I, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
for _name, _result, _args in (
        ("PQconnectdb", _P, [_S]), ("PQstatus", _I, [_P]), ("PQerrorMessage", _S, [_P]),
        ("PQfinish", None, [_P]), ("PQsocket", _I, [_P]), ("PQsendQuery", _I, [_P, _S]),
        ("PQconsumeInput", _I, [_P]), ("PQisBusy", _I, [_P]), ("PQgetResult", _P, [_P]),
        ("PQresultStatus", _I, [_P]), ("PQresultErrorMessage", _S, [_P]), ("PQclear", None, [_P]),
        ("PQntuples", _I, [_P]), ("PQnfields", _I, [_P]), ("PQgetisnull", _I, [_P, _I, _I]),
        ("PQgetvalue", _S, [_P, _I, _I]), ("PQbackendPID", _I, [_P])):
    _f = getattr(_lib, _name)
    _f.restype, _f.argtypes = _result, _args

COMMAND_OK, TUPLES_OK, EMPTY = 1, 2, 0


class PgError(Exception):
    pass


class Pg:
    def __init__(self, conninfo):
        self.conn = _lib.PQconnectdb(conninfo.encode())
        if _lib.PQstatus(self.conn) != 0:
            message = _lib.PQerrorMessage(self.conn).decode()
            _lib.PQfinish(self.conn)
            raise PgError(message)
        self.pid = _lib.PQbackendPID(self.conn)

    def fileno(self):
        return _lib.PQsocket(self.conn)

    def send(self, sql):
        if not _lib.PQsendQuery(self.conn, sql.encode()):
            raise PgError(_lib.PQerrorMessage(self.conn).decode())

    def ready(self):
        """Reads what has arrived; whether take() would not block."""
        if not _lib.PQconsumeInput(self.conn):
            raise PgError(_lib.PQerrorMessage(self.conn).decode())
        return not _lib.PQisBusy(self.conn)

    def take(self):
        """The rows of the last statement that was sent and returned any."""
        rows, error = [], None
        while True:
            result = _lib.PQgetResult(self.conn)
            if not result:
                break
            status = _lib.PQresultStatus(result)
            if status == TUPLES_OK:
                fields = range(_lib.PQnfields(result))
                rows = [tuple(None if _lib.PQgetisnull(result, r, c) else _lib.PQgetvalue(result, r, c).decode()
                              for c in fields) for r in range(_lib.PQntuples(result))]
            elif status not in (COMMAND_OK, EMPTY):
                error = _lib.PQresultErrorMessage(result).decode()
            _lib.PQclear(result)
        if error:
            raise PgError(error)
        return rows

    def rows(self, sql, timeout_s=300):
        self.send(sql)
        waiter = select.poll()
        waiter.register(self.fileno(), select.POLLIN)
        while not self.ready():
            if not waiter.poll(timeout_s * 1000):
                raise PgError("no answer within %d s: %s" % (timeout_s, sql[:100]))
        return self.take()

    def one(self, sql, timeout_s=300):
        rows = self.rows(sql, timeout_s)
        return rows[0][0] if rows else None

    def close(self):
        if self.conn:
            _lib.PQfinish(self.conn)
            self.conn = None
