/*
 * fuzz_classify.c
 *		libFuzzer target: APNs answers to verdicts.
 *
 * Input: two bytes of status, a length byte and that much Retry-After, the
 * rest is the body.  Traps on a verdict outside its contract, or if the same
 * result gives two verdicts.
 */
#include <stdint.h>
#include <string.h>

#include "../../src/core/retry_after.h"
#include "../../src/provider/apns.h"

int			LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	const NotifProviderOps *ops = notif_provider_find("apns");
	NotifVerdict first;
	NotifVerdict second;
	NotifResult result = {0};
	char		retry_after[256];
	size_t		retry_len;

	if (size < 3)
		return 0;
	result.status = (input[0] << 8 | input[1]) % 1000;
	result.known = (NotifKnown) (input[0] % 8 == 1 ? NOTIF_NOT_SENT : input[0] % 8 == 2 ?
								 NOTIF_UNKNOWN : NOTIF_ANSWERED);
	result.error = (NotifNetError) (input[1] % 9);
	retry_len = input[2] < size - 3 ? input[2] : size - 3;
	memcpy(retry_after, input + 3, retry_len);
	retry_after[retry_len] = '\0';
	result.retry_after = retry_after;
	result.body = (const char *) input + 3 + retry_len;
	result.body_len = size - 3 - retry_len;
	result.message_id = "";
	result.detail = "";

	ops->classify(&result, &first);
	ops->classify(&result, &second);
	if (memcmp(&first, &second, sizeof(first)) != 0 ||
		memchr(first.reason, '\0', sizeof(first.reason)) == NULL ||
		first.retry_after_s < 0 || first.retry_after_s > NOTIF_RETRY_AFTER_MAX_S ||
		first.gone_at_ms < 0 || (int) first.kind < 0 || first.kind > NOTIF_VERDICT_UNKNOWN)
		__builtin_trap();
	for (const char *at = first.reason; *at != '\0'; at++)
	{
		if (*at < 0x20 || *at > 0x7E)
			__builtin_trap();
	}
	if (notif_retry_after_s(retry_after, 1700000000) > NOTIF_RETRY_AFTER_MAX_S)
		__builtin_trap();
	return 0;
}
