/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * other-kernel - LD_PRELOAD: libnftables as on a kernel that is not this one.
 *
 * LACKS=WORD[,WORD]	rules that hold the word are refused as by a kernel without that expression
 * HAS=JSON		listings hold that object, too (flowtables, which need a kernel with nf_flow_table)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nft_ctx;

static char refusal[512], listing[1 << 20];

static int lacks(const char *text)
{
	char words[256], *rest = words, *word;

	snprintf(words, sizeof(words), "%s", getenv("LACKS") ? getenv("LACKS") : "");
	while ((word = strsep(&rest, ",")))
		if (*word && strstr(text, word))
			return 1;
	return 0;
}

int nft_run_cmd_from_buffer(struct nft_ctx *nft, const char *text)
{
	int (*real)(struct nft_ctx *, const char *) = dlsym(RTLD_NEXT, "nft_run_cmd_from_buffer");

	refusal[0] = '\0';
	if (!lacks(text))
		return real(nft, text);
	snprintf(refusal, sizeof(refusal),
		 "/dev/stdin:1:1-9: Error: Could not process rule: No such file or directory\n");
	return -1;
}

const char *nft_ctx_get_error_buffer(struct nft_ctx *nft)
{
	const char *(*real)(struct nft_ctx *) = dlsym(RTLD_NEXT, "nft_ctx_get_error_buffer");

	return refusal[0] ? refusal : real(nft);
}

const char *nft_ctx_get_output_buffer(struct nft_ctx *nft)
{
	const char *(*real)(struct nft_ctx *) = dlsym(RTLD_NEXT, "nft_ctx_get_output_buffer");
	const char *out = real(nft), *array = out ? strstr(out, "{\"nftables\": [") : NULL;

	if (!array || !getenv("HAS"))
		return out;
	snprintf(listing, sizeof(listing), "{\"nftables\": [%s, %s", getenv("HAS"),
		 array + strlen("{\"nftables\": ["));
	return listing;
}
