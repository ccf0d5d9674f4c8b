#pragma once

#include <string>

#include "deploy/cli/run.h"

namespace muster::deploy::cli {

// "active" when it is empty; else a usage error.
Result<v1::NodeSpec::Availability> parse_availability(const std::string& text);

// What to keep after autolock was turned on.
std::string unlock_text(const std::string& key);

// The contents of a certificate's or key's file.
Status read_pem_file(Run& run, const std::string& file, std::string* pem);

// A line that nobody else should see: from the terminal without echo, or from a pipe. The prompt is
// shown only on a terminal. Make `Signals` for SIGINT and SIGTERM before run.client(): a key press
// that ends the program must not leave the terminal silent. CANCELLED when it was one.
Result<std::string> read_hidden_line(Run& run, Signals& signals, const std::string& prompt);

}  // namespace muster::deploy::cli
