#pragma once

namespace muster {

// Keeps the threads of gRPC's callback interface until the process ends. Of themselves they end
// with the last channel and server that use them (CallbackAlternativeCQ of gRPC 1.51), and the last
// channel goes with a call's context, where that is let go at the end of the call: in one of these
// very threads, which then waits for itself in vain and goes on with a queue that was freed, until
// a check of gRPC's own aborts.
//
// For whoever makes calls by the callback interface, before the first of them. Any thread, any
// number of times; after the first it costs a look at a flag.
void keep_callback_threads();

}  // namespace muster
