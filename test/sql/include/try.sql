-- What a call answers, or the error that it raises: SQLSTATE, message, and a complaint
-- if it comes without detail or hint.
CREATE FUNCTION try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer	text;
	message	text;
	detail	text;
	hint	text;
BEGIN
	EXECUTE call INTO answer;
	RETURN coalesce(answer, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || message || CASE WHEN detail = '' THEN ' (no detail)' ELSE '' END
		|| CASE WHEN hint = '' THEN ' (no hint)' ELSE '' END;
END
$$;
