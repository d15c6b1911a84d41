/* replay.h - `lucid replay`: the calls of a recorded program, made again on many allocators. */
#ifndef LUCID_REPLAY_H
#define LUCID_REPLAY_H

int tool_replay_main(int argc, char **argv);

/* What it starts for an allocator in a process of its own, and no command for users: "lucid
 * replay-driver PROGRAM-FD OUTCOME-FD". */
#define REPLAY_DRIVER "replay-driver"
int replay_driver_main(int argc, char **argv);

#endif
