# What soak.py measured, as a picture. `from`, `to` and `prompts` come from the Makefile.
set terminal svg size 900,480 font "DejaVu Sans,14" background "white"
set output to
set title "Memory while ".prompts." prompts stream through the tiny model"
set xlabel "time (s)"
set ylabel "resident memory (MiB)"
set yrange [0:*]
set grid ytics lc rgb "#dddddd"
set key outside right top
set border 3
set tics nomirror out
stats from using 1 nooutput
# The file ends with an empty block.
plot for [i = 0:STATS_blocks - 2] from index i using 1:2 with lines lw 2 title columnheader(1)
