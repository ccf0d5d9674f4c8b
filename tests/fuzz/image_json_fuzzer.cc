// Any text as what registries and archives say about an image: manifests, indexes, configurations,
// references.

#include <cstdint>
#include <string_view>

#include "agent/images/manifest.h"
#include "agent/images/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)muster::agent::media_type_of(text);
  (void)muster::agent::parse_manifest(text);
  (void)muster::agent::choose_platform(text, {"linux", "arm", "v7"});
  (void)muster::agent::parse_config(text);
  // What is accepted is read again as the same.
  if (const auto reference = muster::agent::parse_reference(text)) {
    const auto again = muster::agent::parse_reference(reference->full());
    if (!again || again->full() != reference->full()) __builtin_trap();
  }
  return 0;
}
