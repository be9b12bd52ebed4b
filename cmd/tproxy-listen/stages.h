/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stages - how the service ends, stage by stage.
 *
 * Any part of the service may note that a stage is due (service_note_stage()), or that there is
 * room again. This file acts on both after the handlers of the loop's turn have returned, so that
 * no handler finds its connection ended, or its listener closed, by a function that it called.
 */
#ifndef TPROXY_LISTEN_STAGES_H
#define TPROXY_LISTEN_STAGES_H

#include "base/report.h"
#include "tproxy-listen/service.h"

/* Prepare the end: signals, --timeout, the loop's hook, and the output of records. The loop and the
 * stream must exist, and signals must be blocked. 0, or -1 with *why. */
int stages_init(struct service *s, const int *signals, struct failure *why);

#endif
