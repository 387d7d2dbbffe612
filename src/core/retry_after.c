/*
 * retry_after.c
 *		Parsing Retry-After; see retry_after.h.
 *
 * The value comes from outside and decides how long a person waits, so what is
 * out of range is clamped and what is not understood is ignored.
 */
#include "retry_after.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const char *
retry_after_skip_space(const char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

static int
retry_after_clamp(int64_t seconds)
{
	if (seconds < 1)
		return 1;
	if (seconds > NOTIF_RETRY_AFTER_MAX_S)
		return NOTIF_RETRY_AFTER_MAX_S;
	return (int) seconds;
}

int
notif_retry_after_delta_s(const char *value)
{
	bool		negative = false;
	int64_t		seconds = 0;
	const char *at;

	if (value == NULL)
		return 0;
	at = retry_after_skip_space(value);
	if (*at == '-' || *at == '+')
		negative = *at++ == '-';
	if (*at < '0' || *at > '9')
		return 0;
	for (; *at >= '0' && *at <= '9'; at++)
	{
		if (seconds <= NOTIF_RETRY_AFTER_MAX_S)
			seconds = seconds * 10 + (*at - '0');
	}
	if (*at == '.')				/* some proxies send fractions */
	{
		at++;
		while (*at >= '0' && *at <= '9')
			at++;
	}
	if (*retry_after_skip_space(at) != '\0')
		return 0;
	return retry_after_clamp(negative ? -1 : seconds);
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. */
static int64_t
retry_after_days(int64_t year, int month, int day)
{
	int64_t		y = month <= 2 ? year - 1 : year;
	int64_t		era = (y >= 0 ? y : y - 399) / 400;
	int64_t		yoe = y - era * 400;
	int64_t		doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* Reads min to max digits; false if there are fewer. */
static bool
retry_after_number(const char **at, int min, int max, int *number)
{
	int			n = 0;

	*number = 0;
	while (n < max && **at >= '0' && **at <= '9')
	{
		*number = *number * 10 + (**at - '0');
		(*at)++;
		n++;
	}
	return n >= min;
}

static bool
retry_after_month(const char **at, int *month)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++)
	{
		if (strncmp(*at, names + 3 * i, 3) == 0)
		{
			*at += 3;
			*month = i + 1;
			return true;
		}
	}
	return false;
}

static bool
retry_after_word(const char **at, const char *word)
{
	size_t		len = strlen(word);

	if (strncmp(*at, word, len) != 0)
		return false;
	*at += len;
	return true;
}

/*
 * IMF-fixdate  Sun, 06 Nov 1994 08:49:37 GMT
 * RFC 850      Sunday, 06-Nov-94 08:49:37 GMT
 * asctime      Sun Nov  6 08:49:37 1994
 */
static bool
retry_after_date(const char *at, int64_t now_s, int64_t *seconds)
{
	int			year = 0;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	bool		asctime = false;

	at = retry_after_skip_space(at);
	while ((*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z'))
		at++;
	if (*at == ',')
	{
		char		separator;

		at++;
		if (!retry_after_word(&at, " ") || !retry_after_number(&at, 2, 2, &day))
			return false;
		separator = *at++;
		if ((separator != ' ' && separator != '-') ||
			!retry_after_month(&at, &month) || *at++ != separator)
			return false;
		if (separator == ' ')
		{
			if (!retry_after_number(&at, 4, 4, &year))
				return false;
		}
		else
		{
			/* two digits: the century that is nearest to now */
			int64_t		this_year = 1970 + now_s / 31556952;

			if (!retry_after_number(&at, 2, 2, &year))
				return false;
			year += (int) (this_year / 100 * 100);
			if (year > this_year + 50)
				year -= 100;
			else if (year < this_year - 50)
				year += 100;
		}
	}
	else
	{
		asctime = true;
		if (!retry_after_word(&at, " ") || !retry_after_month(&at, &month) ||
			!retry_after_word(&at, " "))
			return false;
		at = retry_after_skip_space(at);
		if (!retry_after_number(&at, 1, 2, &day))
			return false;
	}
	if (!retry_after_word(&at, " ") || !retry_after_number(&at, 2, 2, &hour) ||
		!retry_after_word(&at, ":") || !retry_after_number(&at, 2, 2, &minute) ||
		!retry_after_word(&at, ":") || !retry_after_number(&at, 2, 2, &second))
		return false;
	if (asctime)
	{
		if (!retry_after_word(&at, " ") || !retry_after_number(&at, 4, 4, &year))
			return false;
	}
	else if (!retry_after_word(&at, " GMT"))
		return false;
	if (*retry_after_skip_space(at) != '\0' || day < 1 || day > 31 ||
		hour > 23 || minute > 59 || second > 60)
		return false;
	*seconds = retry_after_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	return true;
}

int
notif_retry_after_s(const char *value, int64_t now_s)
{
	int			delta = notif_retry_after_delta_s(value);
	int64_t		date;

	if (delta > 0 || value == NULL)
		return delta;
	if (!retry_after_date(value, now_s, &date))
		return 0;
	if (date <= now_s)
		return 1;
	return retry_after_clamp(date - now_s);
}
