# SPDX-License-Identifier: GPL-2.0-or-later
#
# From raw.csv: medians, and the ratios ours / theirs of figures of the same round.
#
# The range beside a median holds the true median with 95 % likelihood (ranks of the binomial
# distribution, nothing assumed about the noise); with fewer than six rounds it is all that was
# seen. A ratio counts as won or lost only where its whole range is on one side of 1, of three
# rounds or more.

BEGIN {
	FS = ","
	ours = "ours"
	workloads = "bulk1 bulk8 wire8 trip1 trip50 trip1000 new open10 open100 open1000 open9000"
	metrics = "rate relay machine p50 p99 memory lost"
	names = "ours ours-threads ours-dsr other forward haproxy haproxy-tuned nginx nginx-threads socat"
	if (udp) {
		workloads = "exchange double half bulk train flows10 flows9000"
		goal("exchange",   "relay", "nginx", "<=", 0.50)
		goal("bulk",       "relay", "nginx", "<=", 0.25)
		goal("train",      "relay", "nginx", "<=", 0.25)
	}
	goal("bulk8",    "relay",  "haproxy",       "<=", 0.27)
	goal("bulk8",    "relay",  "haproxy-tuned", "<=", 0.70)
	goal("bulk8",    "rate",   "haproxy",       ">=", 1.30)
	goal("bulk8",    "rate",   "haproxy-tuned", ">=", 1.00)
	goal("trip50",   "relay",  "haproxy",       "<=", 0.55)
	goal("new",      "relay",  "haproxy",       "<=", 0.60)
	goal("trip50",   "p99",    "haproxy",       "<=", 1.00)
	goal("open9000", "memory", "haproxy",       "<=", 0.05)
}

function goal(workload, metric, contender, sense, bound) {
	goals++
	goal_work[goals] = workload; goal_metric[goals] = metric; goal_than[goals] = contender
	goal_sense[goals] = sense; goal_bound[goals] = bound
}

FNR == 1 { next }

$7 > steal_limit { dropped++; next }

{
	kept++
	value[$2, $4, $3, $1] = $5
	unit[$2, $4] = $6
	if (!(($2, $4) in seen)) { seen[$2, $4]; measures++; work[measures] = $2; metric[measures] = $4 }
	if (!($3 in known)) { known[$3]; contenders++; contender[contenders] = $3 }
	if ($1 > rounds) rounds = $1
	others[kept] = $8
	if ($4 == "errors") errors[$3] += $5
}

# ---------------------------------------------------------------- statistics

function sort(a, n,    i, j, v) {
	for (i = 2; i <= n; i++) {
		v = a[i]
		for (j = i - 1; j >= 1 && a[j] > v; j--)
			a[j + 1] = a[j]
		a[j + 1] = v
	}
}

# How many of n sorted values may be left off at each end. (2^-n is 0 in floating point from 1075 on.)
function trim(n,    k, tail, term) {
	if (n > 1000)
		return int(n / 2 - sqrt(n))
	term = tail = 0.5 ^ n
	for (k = 0; 2 * tail <= 0.05; k++) {
		term *= (n - k) / (k + 1)
		tail += term
	}
	return k > 0 ? k - 1 : 0
}

# Sets count, median, low, high of a[1..n].
function spread(a, n) {
	count = n
	if (n == 0)
		return 0
	sort(a, n)
	median = n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
	low = a[1 + trim(n)]
	high = a[n - trim(n)]
	return n
}

function figures(w, m, c,    r, n, a) {
	for (r = 1; r <= rounds; r++)
		if ((w, m, c, r) in value)
			a[++n] = value[w, m, c, r] + 0
	return spread(a, n + 0)
}

# Ratios of (w, m, c) to (w2, m, c2), round by round.
function ratios(w, m, c, w2, c2,    r, n, a) {
	for (r = 1; r <= rounds; r++)
		if ((w, m, c, r) in value && (w2, m, c2, r) in value && value[w2, m, c2, r] > 0)
			a[++n] = value[w, m, c, r] / value[w2, m, c2, r]
	return spread(a, n + 0)
}

# ---------------------------------------------------------------- words

function short(x) {
	if (x >= 9999.5) return sprintf("%.0fk", x / 1000)
	if (x >= 99.95) return sprintf("%.0f", x)
	if (x >= 9.995) return sprintf("%.1f", x)
	return sprintf("%.2f", x)
}

# How far the range reaches from the median, in percent.
function reach(    up, down) {
	up = high - median
	down = median - low
	return median > 0 ? 100 * (up > down ? up : down) / median : 0
}

# One sign on the ratio in median, low, high: is ours better?
function verdict(m,    up) {
	if (count < 3 || (low <= 1 && high >= 1))
		return "="
	up = m == "rate"
	return (low > 1) == up ? "+" : "-"
}

function place(name,    i) {
	for (i = 1; i <= measures; i++)
		if (name == work[i] "," metric[i])
			return i
	return 0
}

# The order of rows: workloads, and in each its metrics.
function order(    w, m, i, j, n, nw, nm, ws, ms) {
	nw = split(workloads, ws, " ")
	nm = split(metrics, ms, " ")
	for (i = 1; i <= nw; i++)
		for (j = 1; j <= nm; j++)
			if ((ws[i], ms[j]) in seen && !(ws[i] ~ /^open/ && ms[j] ~ /^p/)) {
				row_work[++n] = ws[i]
				row_metric[n] = ms[j]
			}
	return n
}

function columns(    i, j, n, list) {
	n = split(names, list, " ")
	for (i = 1; i <= n; i++)
		if (list[i] in known)
			column[++j] = list[i]
	return j
}

function title_udp(w) {
	if (w == "exchange") return "exchanges"
	if (w == "double") return "exchanges of two"
	if (w == "half") return "half of that rate"
	if (w == "bulk") return "bulk, 1,200 bytes"
	if (w == "train") return "bulk, 40 together"
	return "exchanges, " substr(w, 6)
}

function title(w) {
	if (udp) return title_udp(w)
	if (w ~ /^bulk/) return "bulk, " substr(w, 5) (w == "bulk1" ? " flow" : " flows")
	if (w ~ /^wire/) return "bulk, 1500 bytes"
	if (w ~ /^trip/) return "round trips, " substr(w, 5)
	if (w == "new") return "new connections"
	return "new, " substr(w, 5) " open"
}

function heading(text, first,    c) {
	printf "\n%s\n\n%-38s", text, ""
	for (c = first; c <= width; c++)
		printf first == 1 ? " %13s" : " %18s", column[c]
	print ""
}

function label(i) {
	printf "%-19s %-7s %10s", row_work[i] == row_work[i - 1] ? "" : title(row_work[i]), row_metric[i], \
		unit[row_work[i], row_metric[i]]
}

# ---------------------------------------------------------------- the report

function table_medians(    i, c) {
	heading("Medians (and how far the range reaches from them)", 1)
	for (i = 1; i <= rows; i++) {
		label(i)
		for (c = 1; c <= width; c++)
			printf " %13s", !figures(row_work[i], row_metric[i], column[c]) ? "." : \
				sprintf("%s (%.0f%%)", short(median), reach())
		print ""
	}
}

function table_ratios(    i, c) {
	heading("ours / theirs, round by round: + ours is better, - ours is worse, = cannot be told", 2)
	for (i = 1; i <= rows; i++) {
		label(i)
		for (c = 2; c <= width; c++)
			printf " %18s", !ratios(row_work[i], row_metric[i], ours, row_work[i], column[c]) ? "." : \
				sprintf("%.2f (%.2f-%.2f) %s", median, low, high, verdict(row_metric[i]))
		print ""
	}
}

function met(sense, bound,    all, most) {
	if (sense == "<=") {
		all = high <= bound
		most = median <= bound
	} else {
		all = low >= bound
		most = median >= bound
	}
	return count < 3 ? "too few rounds" : all ? "met" : most ? "met by the median only" : "NOT MET"
}

function table_goals(    g, text) {
	printf "\nGoals\n\n"
	for (g = 1; g <= goals; g++) {
		if (!ratios(goal_work[g], goal_metric[g], ours, goal_work[g], goal_than[g]))
			continue
		text = title(goal_work[g]) ", " goal_metric[g] ": of " goal_than[g]
		printf "%-52s %s %.2f   %.3f (%.3f-%.3f)  %s\n", text, goal_sense[g], goal_bound[g], median, low, high, \
			met(goal_sense[g], goal_bound[g])
	}
	if (udp)
		table_goals_udp()
	if (ratios("open9000", "relay", ours, "open10", ours))
		printf "%-52s %s %.2f   %.3f (%.3f-%.3f)  %s\n", title("open9000") ", relay: of that with 10 open", \
			"<=", 1.2, median, low, high, met("<=", 1.2)
}

function goal_line(text, sense, bound) {
	printf "%-52s %s %.2f   %.3f (%.3f-%.3f)  %s\n", text, sense, bound, median, low, high, met(sense, bound)
}

# What a goal's figure is to be read beside.
function compared(text) {
	printf "%-52s         %.3f (%.3f-%.3f)\n", text, median, low, high
}

function table_goals_udp() {
	if (ratios("flows9000", "relay", ours, "flows10", ours))
		goal_line("9,000 flows, relay: of that with 10", "<=", 1.2)
	if (figures("flows9000", "memory", ours))
		goal_line("9,000 flows, memory of each: bytes", "<=", 256)
	if (figures("half", "lost", ours))
		goal_line("half of the highest rate, lost: %", "<=", 0)
	if (ratios("double", "rate", "ours-threads", "double", ours))
		goal_line("exchanges, rate: two threads to one", ">=", 1.6)
	if (ratios("double", "rate", "nginx-threads", "double", "nginx"))
		compared("the same of nginx: two processes to one")
	if (ratios("double", "rate", "forward", "double", ours))
		compared("the most there is: forwarding to one thread")
	if (ratios("double", "relay", "ours-threads", "double", ours))
		compared("relay CPU each: two threads to one")
}

function table_lost(    i, c, n, told) {
	for (i = 1; i <= rows; i++)
		for (c = 2; c <= width; c++) {
			if (column[c] == "forward" || column[c] ~ /^ours-/ || ratios(row_work[i], row_metric[i], ours, row_work[i], column[c]) < 3)
				continue
			told++
			if (verdict(row_metric[i]) != "-")
				continue
			if (!n++)
				printf "\nLost\n\n"
			printf "%-24s %-8s to %-14s %.2f (%.2f-%.2f)\n", title(row_work[i]), row_metric[i], \
				column[c], median, low, high
		}
	if (!told)
		print "\nToo few rounds to say what was won and what was lost."
	else if (!n)
		print "\nLost to no other relay in anything that was measured, as far as can be told."
}

function notes(    c) {
	spread(others, kept)
	printf "\n%d rounds, %d figures; %d dropped because more than %d %% of the machine was stolen.\n", \
		rounds, kept, dropped, steal_limit
	if (median > 2)
		printf "Other processes took %.0f %% of the machine (median): only relay CPU is to be trusted.\n", median
	for (c in errors)
		printf "%s: %d requests failed.\n", c, errors[c]
}

function write_summary(    i, c, got) {
	print "workload,metric,unit,contender,rounds,median,low,high,ratio,ratio_low,ratio_high" >summary
	for (i = 1; i <= rows; i++)
		for (c = 1; c <= width; c++) {
			if (!figures(row_work[i], row_metric[i], column[c]))
				continue
			got = row_work[i] "," row_metric[i] "," unit[row_work[i], row_metric[i]] "," column[c] "," \
				count "," median "," low "," high
			if (ratios(row_work[i], row_metric[i], ours, row_work[i], column[c]))
				got = got "," median "," low "," high
			else
				got = got ",,,"
			print got >summary
		}
	close(summary)
}

END {
	rows = order()
	width = columns()
	table_medians()
	table_ratios()
	table_goals()
	table_lost()
	notes()
	write_summary()
}
