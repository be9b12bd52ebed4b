/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tally.h"

const char *tally_name(unsigned which)
{
	static const char *const names[TALLY_REASONS] = {
		[TALLY_ACCEPTED] = "accepted",	 [TALLY_OPENED] = "opened",
		[TALLY_REFUSED] = "refused",	 [TALLY_CLOSED] = "closed",
		[TALLY_BYTES_UP] = "bytes-up",	 [TALLY_BYTES_DOWN] = "bytes-down",
		[TALLY_AT_LIMIT] = "paused-max", [TALLY_NO_DESCRIPTOR] = "paused-descriptors",
	};

	return which < TALLY_REASONS ? names[which] : reason_name(which - TALLY_REASONS);
}
