/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sanitized - is this a sanitizer build? Its run-time libraries read /proc, trace this process and
 * map memory at any time.
 */
#ifndef TPROXY_BASE_SANITIZED_H
#define TPROXY_BASE_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(TPROXY_COVERAGE)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
