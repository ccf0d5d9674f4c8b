#include "base/grpc/callback_threads.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <future>
#include <memory>

namespace muster {
namespace {

// What a call needs, its channel among it. Let go by whoever comes last, as agents' sessions and
// managers' lanes are: the caller, or the call's end in a thread of gRPC's.
struct Call {
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1};
  grpc::ByteBuffer response;
  std::promise<void> done;
};

void call_and_forget() {
  auto call = std::make_shared<Call>();
  std::future<void> done = call->done.get_future();
  const auto channel = grpc::CreateChannel("", nullptr);
  grpc::GenericStub(channel).UnaryCall(&call->context, "/none", grpc::StubOptions(), &call->request,
                                       &call->response,
                                       [call](const grpc::Status&) { call->done.set_value(); });
  call.reset();
  done.wait();
}

// Without keep_callback_threads() the process ends by SIGABRT after some hundred calls.
TEST(CallbackThreadsTest, TheLastChannelMayGoAtTheEndOfACall) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        keep_callback_threads();
        for (int i = 0; i < 1000; ++i) call_and_forget();
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace muster
