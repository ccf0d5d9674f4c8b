#pragma once

namespace muster::bench {

// What the kernel has for itself in the whole machine, KiB: slabs, per-processor memory, vmalloc.
double kernel_kib();
// This process's share of memory (PSS), KiB, once its allocator has given back what is free.
double own_pss_kib();
// Processor time that this process has used, in user and kernel mode, milliseconds.
double own_cpu_ms();

}  // namespace muster::bench
