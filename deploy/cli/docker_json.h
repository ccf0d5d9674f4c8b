#pragma once

#include <boost/json/object.hpp>

#include "muster/v1/control.pb.h"
#include "muster/v1/local.pb.h"
#include "muster/v1/objects.pb.h"

// muster's objects in the shape of Docker's API: the field names, units and enum words that
// scripts and `inspect -f` templates depend on. Fields Docker leaves out when empty are left out;
// Labels are always there.
namespace muster::deploy::cli {

boost::json::object service_spec_json(const v1::ServiceSpec& spec);
boost::json::object task_spec_json(const v1::TaskSpec& spec);
boost::json::object service_json(const v1::Service& service);
// `revision` may be null.
boost::json::object task_json(const v1::Task& task, const v1::Revision* revision);
boost::json::object node_json(const v1::Node& node);
boost::json::object network_json(const v1::Network& network);
// A secret without its data; a config with it, in base64.
boost::json::object payload_json(const v1::Secret& secret);
boost::json::object payload_json(const v1::Config& config);
boost::json::object cluster_json(const v1::Cluster& cluster);
boost::json::object volume_json(const v1::LocalVolume& volume);
boost::json::object image_json(const v1::Image& image);
// `cluster` may be null.
boost::json::object info_json(const v1::GetInfoResponse& info, const v1::Cluster* cluster);

}  // namespace muster::deploy::cli
