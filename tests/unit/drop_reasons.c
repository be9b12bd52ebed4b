/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The format of the tracepoint skb:kfree_skb. */
#include "tproxy-inspect/explain/drop_reasons.h"
#include "check.h"

static struct drop_reasons_format format;

int main(void)
{
	static const char good[] =
		"name: kfree_skb\nID: 2310\nformat:\n"
		"\tfield:unsigned short protocol;\toffset:32;\tsize:2;\tsigned:0;\n"
		"\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;\n\n"
		"print fmt: \"reason: %s\", REC->protocol, __print_symbolic(REC->reason, "
		"{ 2, \"NOT_SPECIFIED\" }, { 12, \"NETFILTER_DROP\" }, { 300, \"MANY\" }, "
		"{ 16, \"A_NAME_THAT_IS_LONGER_THAN_THERE_IS_ROOM_FOR\" }, { 0x11, \"HEX\" })\n";

	CHECK(drop_reasons_parse(good, &format));
	CHECK(format.offset == 36);
	CHECK_TEXT(format.name[12], "NETFILTER_DROP");
	CHECK_TEXT(format.name[2], "NOT_SPECIFIED");
	CHECK_TEXT(format.name[16], "");
	CHECK_TEXT(format.name[17], "HEX");
	CHECK(format.unspecified == 2);
	/* Linux 5.18 has no SKB_CONSUMED before it; another kernel does not name it. */
	CHECK(drop_reasons_parse("field:int reason;\toffset:8;\tsize:4;\t__print_symbolic("
				 "REC->reason, { 1, \"NOT_SPECIFIED\" }, { 2, \"NO_SOCKET\" })",
				 &format));
	CHECK(format.unspecified == 1);
	CHECK_TEXT(format.name[2], "NO_SOCKET");
	CHECK(drop_reasons_parse("field:int reason;\toffset:8;\tsize:4;\t__print_symbolic("
				 "REC->reason, { 2, \"NO_SOCKET\" })",
				 &format));
	CHECK(format.unspecified == 0);
	/* Before 5.17 there was no reason; a field of another size. */
	CHECK(!drop_reasons_parse("field:void * skbaddr;\toffset:8;\tsize:8;\n", &format));
	CHECK(!drop_reasons_parse("field:int reason;\toffset:8;\tsize:8;\t__print_symbolic(",
				  &format));
	CHECK(!drop_reasons_parse("field:int reason;\toffset:9999;\tsize:4;\t__print_symbolic(",
				  &format));
	CHECK(!drop_reasons_parse("", &format));
	return check_done();
}
