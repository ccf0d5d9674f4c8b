#pragma once

#include <grpcpp/support/server_callback.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "agent/images/image_store.h"
#include "deploy/daemon/work_pool.h"
#include "muster/v1/local.pb.h"

namespace muster::daemon {

// The image calls of the local API. Image work blocks for as long as a download takes, so each
// call runs on the pool; a caller that goes away cancels its pull.
grpc::ServerWriteReactor<v1::PullProgress>* pull_image(WorkPool& pool, agent::ImageStore& images,
                                                       const v1::PullImageRequest& request);

// Writes what arrives into a temporary file under `scratch`, then loads it.
grpc::ServerReadReactor<v1::LoadImageRequest>* load_image(WorkPool& pool, agent::ImageStore& images,
                                                          const std::filesystem::path& scratch,
                                                          v1::LoadImageResponse* response);

grpc::ServerWriteReactor<v1::PullProgress>* refuse_pull(const Status& why);
grpc::ServerReadReactor<v1::LoadImageRequest>* refuse_load(const Status& why);

}  // namespace muster::daemon
