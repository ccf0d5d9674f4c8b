#pragma once

#include "muster/v1/control.pb.h"

namespace muster::manager::control {

// Whether an object passes a list's filter. Fields and together, values of a field or together, but
// all labels must match.
bool passes(const v1::ListFilter& filter, const v1::Service& service);
bool passes(const v1::ListFilter& filter, const v1::Node& node);
bool passes(const v1::ListFilter& filter, const v1::Network& network);
bool passes(const v1::ListFilter& filter, const v1::Secret& secret);
bool passes(const v1::ListFilter& filter, const v1::Config& config);
bool passes(const v1::ListFilter& filter, const v1::Task& task);

}  // namespace muster::manager::control
