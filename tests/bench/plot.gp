# SPDX-License-Identifier: GPL-2.0-or-later
#
# bench.svg from summary.csv in the folder `folder`: medians with their range. The scales are
# logarithmic: the same distance is the same ratio everywhere.

file = folder . "/summary.csv"
set datafile separator comma
set terminal svg size 1200, 900 font "sans,11" background "white"
set output folder . "/bench.svg"

names = "ours forward haproxy haproxy-tuned nginx socat other"
colours = "0x1b7837 0x888888 0x2166ac 0x67a9cf 0xb2182b 0xef8a62 0x7fbf7b"
colour(i) = int(word(colours, i))
index(name) = sum [i = 1:words(names)] (word(names, i) eq name ? i : 0)

set border 3
set tics nomirror out scale 0.5
set grid ytics lc rgb "#dddddd"
set logscale y
set autoscale yfix
set offsets graph 0, graph 0, graph 0.1, graph 0.1
set ytics add ("0.05" .05, "0.2" .2, "0.5" .5, "2" 2, "5" 5, "20" 20, "50" 50, "200" 200, "500" 500, \
	"2k" 2e3, "5k" 5e3, "20k" 2e4, "50k" 5e4)
set xrange [0.4:7.6]
set xtics rotate by -20
set for [i = 1:words(names)] xtics add (word(names, i) i)
unset key

# figure WORKLOAD METRIC: a row of points, or an empty place where it was not measured.
only(work, metric, value) = strcol(1) eq work && strcol(2) eq metric ? value : NaN
measured(work, metric) = system(sprintf("grep -c '^%s,%s,' '%s'", work, metric, file)) > 0
figure(work, metric) = !measured(work, metric) ? "set multiplot next" : \
	sprintf("which(value) = only('%s', '%s', value); ", work, metric) . \
	"plot file skip 1 using (index(strcol(4))):(which($6)):(which($7)):(which($8)):" . \
	"(colour(index(strcol(4)))) with yerrorbars pt 7 ps 0.7 lw 2 lc rgb variable"

set multiplot layout 3, 3 title "tproxy-relay and others: medians and their range"

set title "bulk, 8 flows: GB/s (more is better)"
eval figure("bulk8", "rate")
set title "bulk, 8 flows: relay CPU, s/GB"
eval figure("bulk8", "relay")
set title "bulk, 8 flows: machine CPU, s/GB"
eval figure("bulk8", "machine")
set title "round trips (50): relay CPU, us"
eval figure("trip50", "relay")
set title "round trips (50): machine CPU, us"
eval figure("trip50", "machine")
set title "round trips (50): 99th percentile, us"
eval figure("trip50", "p99")
set title "new connections: relay CPU, us"
eval figure("new", "relay")
set title "9000 idle connections: bytes each"
eval figure("open9000", "memory")

set title "new ones while others are open: relay CPU, us"
set logscale x
set xrange [7:13000]
set xtics norotate ("10" 10, "100" 100, "1000" 1000, "9000" 9000)
set xlabel "open and idle" offset 0, 0.5
set key outside bottom center horizontal samplen 1
open(text) = text[1:4] eq "open" ? real(text[5:*]) : NaN
many(name, value) = strcol(1)[1:4] eq "open" && strcol(2) eq "relay" && strcol(4) eq name ? value : NaN
if (measured("open10", "relay")) {
	plot for [i = 1:words(names)] file skip 1 \
		using (open(strcol(1))):(many(word(names, i), $6)):(many(word(names, i), $7)):(many(word(names, i), $8)) \
		with yerrorlines pt 7 ps 0.5 lc rgb colour(i) title word(names, i)
}
unset multiplot
