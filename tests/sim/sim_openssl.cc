#define OPENSSL_SUPPRESS_DEPRECATED  // what replaced it needs a provider of one's own
#include "tests/sim/sim_openssl.h"

#include <openssl/rand.h>

#include <cstring>

#include "base/check.h"

namespace muster::sim {
namespace {

Rng* source = nullptr;

int random_bytes(unsigned char* out, int size) {
  while (size > 0) {
    const uint64_t value = source->next();
    const int some = size < 8 ? size : 8;
    std::memcpy(out, &value, static_cast<size_t>(some));
    out += some;
    size -= some;
  }
  return 1;
}

int ready() {
  return 1;
}

const RAND_METHOD kSeeded = {nullptr, random_bytes, nullptr, nullptr, random_bytes, ready};

}  // namespace

SeededOpenSsl::SeededOpenSsl(uint64_t seed) : rng_(seed) {
  MUSTER_CHECK(source == nullptr, "two runs at once");
  source = &rng_;
  MUSTER_CHECK(RAND_set_rand_method(&kSeeded) == 1, "OpenSSL takes no random numbers");
}

SeededOpenSsl::~SeededOpenSsl() {
  RAND_set_rand_method(nullptr);
  source = nullptr;
}

}  // namespace muster::sim
