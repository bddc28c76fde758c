"""How the launcher and the ranks understand each other."""

import signal

INTERRUPT = signal.SIGUSR2  # "end after this round": what the launcher makes of Ctrl-C; mpirun passes it to every rank
CONNECTED = "all ranks are connected"  # the launcher looks for this line: from here on a rank may die
REFUSED = "refused: "  # how a rank begins a line that says what is wrong with the settings or the machines
