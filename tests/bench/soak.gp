# tests/bench/soak.dat, written by soak.py, as soak.svg.
set terminal svg size 900,480 font "DejaVu Sans,14" background "white"
set output folder."/soak.svg"
set title "Memory while ".prompts." prompts stream through the tiny model"
set xlabel "time (s)"
set ylabel "resident memory (MiB)"
set yrange [0:*]
set grid ytics lc rgb "#dddddd"
set key outside right top
set border 3
set tics nomirror out
stats folder."/soak.dat" using 1 nooutput
plot for [i = 0:STATS_blocks - 1] folder."/soak.dat" index i using 1:2 with lines lw 2 title columnheader(1)
