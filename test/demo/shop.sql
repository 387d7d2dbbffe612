-- A small shop.  All it does for notifications is one call in a trigger: the
-- order and its notification are committed, or rolled back, together.
-- psql variables: port and dir of the sandbox.

CREATE EXTENSION notif;

-- ---- what notif is told once, by an administrator ---------------------------

-- An APNs account: here the sandbox's, with its own authority and key.
SELECT notif.define_provider('apple', 'apns',
	jsonb_build_object('host', 'localhost', 'port', :port, 'ca_file', :'dir' || '/ca.pem',
					   'team_id', 'TEAM123456', 'key_id', 'KEY1234567', 'topic', 'com.example.shop'),
	key => 'file:' || :'dir' || '/apns_key.p8');
SELECT notif.define_route('push', providers => '{apple}');

SELECT notif.define_category('orders', description => 'What happens to your orders');
SELECT notif.define_category('security', rate_limited => false, description => 'Codes and warnings');
SELECT notif.define_category('offers', description => 'News of the shop');

SELECT notif.define_type('order.placed', 'orders', title => 'Order {order}',
	body => 'Thank you, {recipient.name}! We have your order {order} over {total} euros.');
SELECT notif.define_type('login.code', 'security', tier => 'critical', channels => '{push}', ttl => '5 minutes',
	title => 'Your code', body => '{code} is your code, {recipient.name}.');
SELECT notif.define_type('shop.news', 'offers', tier => 'bulk', title => 'News for {recipient.name}',
	body => '{headline}. Yours, {recipient.name}, for {recipient.points} points until Sunday.');

-- ---- the application, an ordinary role --------------------------------------

CREATE ROLE shop LOGIN;
GRANT notif_publisher TO shop;
CREATE SCHEMA shop AUTHORIZATION shop;
SET ROLE shop;

CREATE TABLE shop.orders (
	id			bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer	text NOT NULL,
	total		numeric(10, 2) NOT NULL,
	placed_at	timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE FUNCTION shop.tell_customer() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM notif.publish('order.placed', recipient => NEW.customer,
		data => jsonb_build_object('order', NEW.id, 'total', NEW.total),
		correlation_id => 'order-' || NEW.id);
	RETURN NULL;
END
$$;

CREATE TRIGGER tell_customer AFTER INSERT ON shop.orders
	FOR EACH ROW EXECUTE FUNCTION shop.tell_customer();

-- Ada has two devices.
SELECT notif.upsert_recipient('ada', locale => 'en', tz => 'Europe/London', attributes => '{"name": "Ada"}');
SELECT notif.register_device('ada', 'phone', 'ios', repeat('a1', 32));
SELECT notif.register_device('ada', 'tablet', 'ipados', repeat('b2', 32));
