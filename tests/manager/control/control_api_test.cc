
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

class ControlApiTest : public ApiFixture {
 protected:
  ControlApiTest() { api_.activate(store_); }
  static v1::CreateServiceRequest web(std::string request_id = {}) {
    v1::CreateServiceRequest request;
    request.mutable_spec()->mutable_annotations()->set_name("web");
    request.mutable_spec()->mutable_task()->mutable_container()->set_image("busybox");
    request.mutable_spec()->mutable_task()->set_registry_auth("secret");
    request.set_request_id(std::move(request_id));
    return request;
  }
};

TEST_F(ControlApiTest, OutsideASwarmSaysWhatToDo) {
  api_.deactivate();
  const auto result = call(&ControlApi::create_service, web());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), StatusCode::kUnavailable);
  EXPECT_NE(result.error().message().find("muster swarm init"), std::string::npos);
}

TEST_F(ControlApiTest, EveryChangeOfAJobBeginsTheNextIteration) {
  v1::CreateServiceRequest create = web();
  create.mutable_spec()->mutable_replicated_job()->set_total_completions(3);
  auto made = call(&ControlApi::create_service, create);
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(made->service().job_status().iteration(), 1u);
  v1::Service service = made->service();
  const auto update = [&](std::function<void(v1::UpdateServiceRequest&)> change) {
    v1::UpdateServiceRequest request;
    request.set_service_id(service.id());
    request.set_version(service.meta().version());
    *request.mutable_spec() = service.spec();
    change(request);
    return call(&ControlApi::update_service, request);
  };
  // A label, no change at all, and the force: the job runs anew, with the same tasks or others.
  auto updated = update([](auto& r) {
    auto* label = r.mutable_spec()->mutable_annotations()->add_labels();
    label->set_key("a");
  });
  ASSERT_TRUE(updated);
  EXPECT_EQ(updated->service().job_status().iteration(), 2u);
  EXPECT_EQ(updated->service().revision(), 1u);
  EXPECT_FALSE(updated->service().has_update_status());
  service = updated->service();
  updated = update([](auto&) {});
  ASSERT_TRUE(updated);
  EXPECT_EQ(updated->service().job_status().iteration(), 3u);
  service = updated->service();
  updated = update([](auto& r) { r.mutable_spec()->mutable_task()->set_force_update(1); });
  ASSERT_TRUE(updated);
  EXPECT_EQ(updated->service().job_status().iteration(), 4u);
  EXPECT_EQ(updated->service().revision(), 2u);
  service = updated->service();
  const auto back = update([](auto& r) { r.set_rollback(true); });
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(back.error().message().find("jobs are not rolled back"), std::string::npos);
  EXPECT_EQ(update([](auto& r) { r.mutable_spec()->mutable_global_job(); }).error().code(),
            StatusCode::kUnimplemented);
}

TEST_F(ControlApiTest, CompletionsOfAJobAreCountedOfItsIteration) {
  v1::CreateServiceRequest create = web();
  create.mutable_spec()->mutable_replicated_job()->set_total_completions(30);
  create.mutable_spec()->mutable_replicated_job()->set_max_concurrent(2);
  const auto made = call(&ControlApi::create_service, create);
  ASSERT_TRUE(made);
  const std::string id = made->service().id();
  store_.update(
      [&](store::Transaction& tx) -> Status {
        v1::Service service = *tx.view().get<v1::Service>(id);
        auto* range = service.mutable_job_status()->add_collected_completed();
        range->set_first(0);
        range->set_last(9);
        service.mutable_job_status()->set_failed(1);
        MUSTER_TRY(tx.update(service));
        const auto task = [&](uint64_t slot, v1::TaskState state, uint64_t iteration) {
          v1::Task out;
          out.set_id(fmt::format("t{}-{}-{}", slot, iteration, static_cast<int>(state)));
          out.set_name(fmt::format("web.{}", slot));
          out.set_slot(slot);
          out.set_service_id(id);
          out.set_job_iteration(iteration);
          out.set_desired_state(v1::TASK_COMPLETE);
          out.mutable_status()->set_state(state);
          return tx.create(std::move(out));
        };
        MUSTER_TRY(task(10, v1::TASK_COMPLETE, 1));
        MUSTER_TRY(task(11, v1::TASK_RUNNING, 1));
        return task(12, v1::TASK_COMPLETE, 7);
      },
      [](const store::Commit&) {});
  world_.settle();
  v1::GetServiceRequest get;
  get.set_service(id);
  const auto status = api_.get_service(user_, get)->status();
  EXPECT_EQ(status.completed_tasks(), 11u);
  EXPECT_EQ(status.running_tasks(), 1u);
  EXPECT_EQ(status.desired_tasks(), 2u);
  EXPECT_EQ(status.failed_tasks(), 1u);
}

TEST_F(ControlApiTest, CreatesWithARevisionAndNeverShowsCredentials) {
  const auto made = call(&ControlApi::create_service, web());
  ASSERT_TRUE(made) << made.error().to_string();
  EXPECT_EQ(made->service().revision(), 1u);
  EXPECT_EQ(made->service().spec().task().registry_auth(), "");
  const auto revision =
      store_.snapshot().get<v1::Revision>(store::revision_id(made->service().id(), 1));
  ASSERT_NE(revision, nullptr);
  EXPECT_EQ(revision->spec().registry_auth(), "secret");
  EXPECT_EQ(call(&ControlApi::create_service, web()).error().code(), StatusCode::kAlreadyExists);
}

TEST_F(ControlApiTest, RequestIdMakesRepeatingSafe) {
  const auto first = call(&ControlApi::create_service, web("once"));
  const auto again = call(&ControlApi::create_service, web("once"));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(first->service().id(), again->service().id());
}

TEST_F(ControlApiTest, EveryChangeMayBeRepeatedUnderItsRequestId) {
  const auto service = call(&ControlApi::create_service, web("id"));
  ASSERT_TRUE(service) << service.error().to_string();
  v1::UpdateServiceRequest update;
  update.set_service_id(service->service().id());
  update.set_version(service->service().meta().version());
  *update.mutable_spec() = service->service().spec();
  update.mutable_spec()->mutable_replicated()->set_replicas(3);
  update.set_request_id("id");  // one id for another method is another request
  EXPECT_TRUE(call(&ControlApi::update_service, update));
  EXPECT_TRUE(call(&ControlApi::update_service, update)) << "not out of sequence";
  v1::RemoveServiceRequest remove;
  remove.set_service("web");
  remove.set_request_id("id");
  EXPECT_TRUE(call(&ControlApi::remove_service, remove));
  EXPECT_TRUE(call(&ControlApi::remove_service, remove)) << "not missing";
  remove.set_request_id("another");
  EXPECT_EQ(call(&ControlApi::remove_service, remove).error().code(), StatusCode::kNotFound);
  remove.set_request_id(std::string(129, 'x'));
  EXPECT_EQ(call(&ControlApi::remove_service, remove).error().code(), StatusCode::kInvalidArgument);

  v1::CreateNetworkRequest network;
  network.mutable_spec()->mutable_annotations()->set_name("net");
  ASSERT_TRUE(call(&ControlApi::create_network, network));
  v1::RemoveNetworkRequest remove_network;
  remove_network.set_network("net");
  remove_network.set_request_id("id");
  EXPECT_TRUE(call(&ControlApi::remove_network, remove_network));
  EXPECT_TRUE(call(&ControlApi::remove_network, remove_network));
}

TEST_F(ControlApiTest, AWatchSinceATimeBeginsThere) {
  const int64_t begin = world_.wall_now().unix_ns;
  ASSERT_TRUE(call(&ControlApi::create_service, web()));
  world_.advance(1s);
  v1::WatchRequest watch;
  watch.add_kinds("service");
  watch.set_since_ns(begin);
  std::vector<v1::WatchResponse> seen;
  const auto take = [&](const Result<v1::WatchResponse>& r) { seen.push_back(r.value()); };
  {
    const auto watching = api_.watch(user_, watch, take);
    world_.settle();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].events(0).action(), v1::ObjectEvent::CREATE);
  }
  seen.clear();
  watch.set_since_ns(begin + Duration(1s).count());
  const auto watching = api_.watch(user_, watch, take);
  world_.settle();
  EXPECT_TRUE(seen.empty()) << "older ones were not asked for";
}

TEST_F(ControlApiTest, AListSaysWhereToWatchFrom) {
  ASSERT_TRUE(call(&ControlApi::create_service, web()));
  const auto list = api_.list_tasks(user_, {});
  ASSERT_TRUE(list);
  EXPECT_EQ(list->version(), store_.snapshot().version());
  v1::WatchRequest watch;
  watch.set_resume_from(list->version());
  int events = 0;
  const auto watching = api_.watch(
      user_, watch, [&](const Result<v1::WatchResponse>& r) { events += r->events_size(); });
  ASSERT_TRUE(watching);
  world_.settle();
  EXPECT_EQ(events, 0);
  v1::RemoveServiceRequest remove;
  remove.set_service("web");
  ASSERT_TRUE(call(&ControlApi::remove_service, remove));
  EXPECT_EQ(events, 1);
}

// Changes of one service, each from what the last one answered.
class ServiceUpdateTest : public ControlApiTest {
 protected:
  ServiceUpdateTest() { service_ = call(&ControlApi::create_service, web())->service(); }

  void change(const std::function<void(v1::ServiceSpec&)>& with) {
    v1::UpdateServiceRequest request;
    *request.mutable_spec() = service_.spec();
    with(*request.mutable_spec());
    send(std::move(request));
  }
  void roll_back() {
    v1::UpdateServiceRequest request;
    request.set_rollback(true);
    send(std::move(request));
  }
  void send(v1::UpdateServiceRequest request) {
    request.set_service_id(service_.id());
    request.set_version(service_.meta().version());
    const auto updated = call(&ControlApi::update_service, request);
    error_ = updated ? "" : updated.error().message();
    if (!updated) return;
    service_ = updated->service();
    warnings_ = {updated->warnings().begin(), updated->warnings().end()};
  }
  // As the orchestrator does.
  void set_status(v1::UpdateStatus::State state) {
    store_.update(
        [&](store::Transaction& tx) {
          v1::Service changed = *tx.view().get<v1::Service>(service_.id());
          changed.mutable_update_status()->set_state(state);
          return tx.update(std::move(changed));
        },
        [](const store::Commit&) {});
    world_.settle();
    service_ = *store_.snapshot().get<v1::Service>(service_.id());
  }
  static void force(v1::ServiceSpec& spec) {
    spec.mutable_task()->set_force_update(spec.task().force_update() + 1);
  }
  static void scale(v1::ServiceSpec& spec) {
    spec.mutable_replicated()->set_replicas(spec.replicated().replicas() + 1);
  }

  v1::Service service_;
  std::string error_;
  std::vector<std::string> warnings_;
};

TEST_F(ServiceUpdateTest, ARollbackSwapsTheSpecsAndTheirRevisions) {
  roll_back();
  EXPECT_EQ(error_, "service web does not have a previous spec");
  change(force);
  EXPECT_EQ(service_.revision(), 2u);
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::UPDATING);
  roll_back();
  EXPECT_EQ(service_.revision(), 1u);
  EXPECT_EQ(service_.spec().task().force_update(), 0u);
  EXPECT_EQ(service_.previous_spec().task().force_update(), 1u);
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  EXPECT_EQ(service_.update_status().message(), "manually requested rollback");
  roll_back();
  EXPECT_EQ(service_.revision(), 2u);
  EXPECT_EQ(service_.spec().task().force_update(), 1u);
  roll_back();
  change(force);
  EXPECT_EQ(service_.revision(), 3u) << "no number is given twice";
}

TEST_F(ServiceUpdateTest, WhatRestartsNothingLeavesTheUpdateUnderWay) {
  change(force);
  const int64_t began = service_.update_status().started_at_ns();
  world_.advance(1s);
  change(scale);
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::UPDATING);
  EXPECT_EQ(service_.update_status().started_at_ns(), began);
  EXPECT_EQ(service_.previous_spec().task().force_update(), 0u);
  change(force);  // another update takes its place
  EXPECT_GT(service_.update_status().started_at_ns(), began);
  EXPECT_EQ(service_.previous_spec().task().force_update(), 1u);
}

TEST_F(ServiceUpdateTest, ANetworkThatARollbackWouldNeedStays) {
  v1::CreateNetworkRequest create;
  create.mutable_spec()->mutable_annotations()->set_name("net");
  create.mutable_spec()->set_driver("overlay");
  ASSERT_TRUE(call(&ControlApi::create_network, create));
  change([](v1::ServiceSpec& spec) { spec.mutable_task()->add_networks()->set_target("net"); });
  ASSERT_EQ(error_, "");
  change([](v1::ServiceSpec& spec) { spec.mutable_task()->clear_networks(); });
  v1::RemoveNetworkRequest remove;
  remove.set_network("net");
  EXPECT_EQ(call(&ControlApi::remove_network, remove).error().message(),
            "network net is in use by the spec that the update of service web would be rolled "
            "back to");
  set_status(v1::UpdateStatus::COMPLETED);
  EXPECT_TRUE(call(&ControlApi::remove_network, remove));
  roll_back();
  EXPECT_EQ(error_.rfind("network ", 0), 0u) << error_;
}

TEST_F(ServiceUpdateTest, APausedUpdateStaysSoAndSaysSo) {
  change(force);
  set_status(v1::UpdateStatus::PAUSED);
  change(scale);
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::PAUSED);
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_EQ(warnings_[0].rfind("service web stays paused in the middle of an update", 0), 0u);
  change([](v1::ServiceSpec& spec) { spec.mutable_update()->set_max_failure_ratio_ppm(500'000); });
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::UPDATING);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(service_.revision(), 2u);
  set_status(v1::UpdateStatus::PAUSED);
  change(force);
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::UPDATING);
  set_status(v1::UpdateStatus::PAUSED);
  roll_back();
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
  set_status(v1::UpdateStatus::ROLLBACK_PAUSED);
  change([](v1::ServiceSpec& spec) { spec.mutable_rollback()->set_parallelism(2); });
  EXPECT_EQ(service_.update_status().state(), v1::UpdateStatus::ROLLBACK_STARTED);
}

TEST_F(ControlApiTest, OnlyWhatOutdatesTasksMakesARevision) {
  auto service = call(&ControlApi::create_service, web())->service();
  v1::UpdateServiceRequest request;
  request.set_service_id(service.id());
  request.set_version(service.meta().version());
  *request.mutable_spec() = service.spec();
  request.mutable_spec()->mutable_replicated()->set_replicas(7);
  auto updated = call(&ControlApi::update_service, request);
  ASSERT_TRUE(updated) << updated.error().to_string();
  EXPECT_EQ(updated->service().revision(), 1u);
  EXPECT_EQ(call(&ControlApi::update_service, request).error().message(), "update out of sequence");
  request.set_version(updated->service().meta().version());
  request.mutable_spec()->mutable_task()->set_force_update(1);
  updated = call(&ControlApi::update_service, request);
  ASSERT_TRUE(updated) << updated.error().to_string();
  EXPECT_EQ(updated->service().revision(), 2u);
  request.set_version(updated->service().meta().version());
  request.mutable_spec()->mutable_global();
  EXPECT_EQ(call(&ControlApi::update_service, request).error().code(), StatusCode::kUnimplemented);
}

TEST_F(ControlApiTest, WhoMadeWhatAnotherHasRemovedSinceIsToldThatItWasDone) {
  v1::CreateNetworkRequest create;
  create.mutable_spec()->mutable_annotations()->set_name("net");
  v1::RemoveNetworkRequest remove;
  remove.set_network("net");
  // Queued together, so that both are in the second entry.
  std::optional<Result<v1::CreateNetworkResponse>> created;
  std::optional<Result<v1::RemoveNetworkResponse>> removed;
  store_.update(
      [](store::Transaction& tx) {
        v1::Node first;
        first.set_id("n");
        return tx.create(std::move(first));
      },
      [](const store::Commit&) {});
  api_.create_network(user_, create, [&](auto answer) { created.emplace(std::move(answer)); });
  api_.remove_network(user_, remove, [&](auto answer) { removed.emplace(std::move(answer)); });
  world_.settle();
  ASSERT_TRUE(removed && removed->has_value());
  ASSERT_TRUE(created && !created->has_value());
  EXPECT_EQ(created->error().code(), StatusCode::kNotFound);
  EXPECT_EQ(created->error().reason(), "removed-since");
}

}  // namespace
}  // namespace muster::manager::control
