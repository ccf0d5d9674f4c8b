#pragma once

#include <cstdint>
#include <string>

namespace muster::scheduler {

// Amounts as reasons say them: "512MiB", "1.5GiB", "1000B"; "0.5", "2".
std::string bytes_text(int64_t bytes);
std::string cpus_text(int64_t nano_cpus);

}  // namespace muster::scheduler
