-- The broadcast's audience: :people recipients, one in five with two devices,
-- all subscribed to a topic; and :codes more with one device each, whom the
-- one-time codes go to.
--
-- An application calls notif.upsert_recipient and notif.register_device for
-- each person as they appear.  There is no call that makes a whole population at
-- once, so the crowd is written straight into the tables, as superuser: that is
-- load generation, not usage.  The topic is subscribed through the API, and so
-- are the receivers of codes.

SET synchronous_commit = off;

INSERT INTO notif_private.recipient (ref, locale, tz, attributes)
SELECT 'customer-' || n, 'en', 'Europe/Berlin',
	   jsonb_build_object('name', 'Customer ' || n, 'points', n % 1000)
FROM generate_series(1, :people) n
ORDER BY random();

INSERT INTO notif_private.endpoint (recipient_id, app_id, channel, device_id, address, registered_at)
SELECT r.id, a.id, 'push', 'device-' || d, md5(r.ref || d) || md5(d || r.ref), now()
FROM notif_private.recipient r
CROSS JOIN generate_series(1, 2) d
CROSS JOIN (SELECT notif_private.app_id('push', 'ios', 'default') AS id OFFSET 0) a
WHERE starts_with(r.ref, 'customer-') AND (d = 1 OR substr(r.ref, 10)::integer % 5 = 0);

SELECT notif.subscribe_many('shop-news', ARRAY(SELECT 'customer-' || n FROM generate_series(1, :people) n));

SELECT count(notif.upsert_recipient('account-' || n, attributes => jsonb_build_object('name', 'Account ' || n)))
FROM generate_series(1, :codes) n;
SELECT count(notif.register_device('account-' || n, 'phone', 'ios', md5('c' || n) || md5(n || 'c')))
FROM generate_series(1, :codes) n;

VACUUM (ANALYZE) notif_private.recipient, notif_private.endpoint, notif_private.subscription;
