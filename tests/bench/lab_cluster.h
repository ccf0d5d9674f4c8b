#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "deploy/lab/lab.h"
#include "muster/v1/control.grpc.pb.h"

namespace muster::bench {

// A lab of the programs beside this one, and what its managers say of it.
class LabCluster {
 public:
  // Brought up, all nodes ready. It ends with the object.
  static Result<std::unique_ptr<LabCluster>> up(const std::string& name, uint32_t managers,
                                                uint32_t workers);
  explicit LabCluster(deploy::lab::Lab made) : lab(std::move(made)) {}
  ~LabCluster() { (void)lab.tear_down(); }

  std::vector<std::string> sockets() const;  // of the managers

  // Asks one manager after another until one answers.
  template <class Response, class Call>
  Result<Response> ask(const Call& call) const {
    Status last = unavailable("no manager answers");
    for (const std::string& socket : sockets()) {
      const auto stub = v1::Control::NewStub(
          grpc::CreateChannel("unix://" + socket, grpc::InsecureChannelCredentials()));
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
      Response response;
      const grpc::Status status = call(*stub, &context, &response);
      if (status.ok()) return response;
      last = Status(static_cast<StatusCode>(status.error_code()), status.error_message());
    }
    return fail(last);
  }

  // The leader's node, once every manager and worker is well.
  Result<std::string> await_health() const;
  // Runs `muster` with these words, through the first manager.
  Status muster(const std::vector<std::string>& words) const;
  // Of deploy/packaging/images; for a program that runs in the checkout.
  Status push_images(const std::vector<std::string>& images) const;

  deploy::lab::Lab lab;
};

}  // namespace muster::bench
