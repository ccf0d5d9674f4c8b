#pragma once

namespace muster {

// From here on, a signal that says of a fault of the program itself (SIGABRT, SIGSEGV, SIGBUS,
// SIGILL, SIGFPE) first writes to standard error which signal, in which thread, and that thread's
// stack, a line each of "PROGRAM(+OFFSET)", for `addr2line -fipe PROGRAM OFFSET`. Then the process
// ends by the signal as it would have, with its core file if those are wanted. Once, before there
// are threads. `program` must stay.
void report_crashes(const char* program);

}  // namespace muster
