#pragma once

namespace muster::bench {

// What the kernel has for itself in the whole machine, KiB: slabs, per-processor memory, vmalloc.
double kernel_kib();
// The same once it does not fall any more: namespaces that were closed are taken apart in the
// background, for seconds when there are many. Waits for 2 s at least, a minute at most.
double settled_kernel_kib();
// This process's share of memory (PSS), KiB, once its allocator has given back what is free.
double own_pss_kib();
// Processor time that this process has used, in user and kernel mode, milliseconds.
double own_cpu_ms();

}  // namespace muster::bench
