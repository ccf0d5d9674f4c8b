#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/sim_executor.h"
#include "manager/allocator/allocator.h"
#include "tests/manager/store/instant_proposer.h"

namespace muster::manager::allocator {

// The allocator of a leader over a store in virtual time.
class AllocatorTest : public ::testing::Test {
 protected:
  AllocatorTest() : strand_(world_), proposer_(strand_), store_(strand_, &proposer_, null_log()) {
    store_.lead(1);
    restart();
  }

  ~AllocatorTest() override {
    world_.settle();
    if (allocator_ != nullptr) {
      EXPECT_EQ(allocator_->audit(), "");
    }
  }

  void restart() {
    allocator_ = std::make_unique<Allocator>(strand_, store_, world_, null_log());
    allocator_->start();
    world_.settle();
  }

  void write(UniqueFunction<Status(store::Transaction&)> body) {
    Status status = internal_error("never done");
    store_.update(std::move(body), [&](const store::Commit& c) { status = c.status; });
    world_.settle();
    ASSERT_TRUE(status.ok()) << status.message();
  }
  template <class T>
  void create(T object) {
    write([object = std::move(object)](store::Transaction& tx) { return tx.create(object); });
  }
  template <class T>
  void change(const std::string& id, UniqueFunction<void(T&)> edit) {
    write([&](store::Transaction& tx) {
      T object = *tx.view().get<T>(id);
      edit(object);
      return tx.update(std::move(object));
    });
  }
  template <class T>
  void remove(const std::string& id) {
    write([&](store::Transaction& tx) { return tx.remove<T>(id); });
  }

  static v1::Network network(const std::string& name, const std::string& subnet = "",
                             const std::string& driver = "overlay") {
    v1::Network n;
    n.set_id("id-" + name);
    n.mutable_spec()->mutable_annotations()->set_name(name);
    n.mutable_spec()->set_driver(driver);
    if (!subnet.empty()) n.mutable_spec()->add_pools()->set_subnet(subnet);
    return n;
  }
  static v1::Service service(const std::string& name, const std::vector<std::string>& networks,
                             const std::vector<uint32_t>& ports = {}) {
    v1::Service s;
    s.set_id("id-" + name);
    s.mutable_spec()->mutable_annotations()->set_name(name);
    for (const auto& n : networks) s.mutable_spec()->mutable_task()->add_networks()->set_target(n);
    for (const uint32_t p : ports) {
      auto* port = s.mutable_spec()->mutable_endpoint()->add_ports();
      port->set_published_port(p);
      port->set_target_port(8080);
    }
    s.set_revision(1);
    return s;
  }
  static v1::Revision revision(const v1::Service& s, uint64_t number = 1) {
    v1::Revision r;
    r.set_id(store::revision_id(s.id(), number));
    r.set_service_id(s.id());
    r.set_number(number);
    *r.mutable_spec() = s.spec().task();
    *r.mutable_ports() = s.spec().endpoint().ports();
    return r;
  }
  static v1::Task task(const v1::Service& s, const std::string& id) {
    v1::Task t;
    t.set_id(id);
    t.set_service_id(s.id());
    t.set_revision(1);
    t.set_desired_state(v1::TASK_RUNNING);
    return t;
  }
  void create_service(const v1::Service& s, int tasks) {
    write([&](store::Transaction& tx) -> Status {
      MUSTER_TRY(tx.create(s));
      MUSTER_TRY(tx.create(revision(s)));
      for (int i = 0; i < tasks; ++i) {
        MUSTER_TRY(tx.create(task(s, fmt::format("{}.{}", s.id(), i))));
      }
      return ok_status();
    });
  }
  void end_task(const std::string& id) {
    change<v1::Task>(id, [](v1::Task& t) { t.mutable_status()->set_state(v1::TASK_FAILED); });
  }

  template <class T>
  store::Ptr<T> get(const std::string& id) {
    return store_.snapshot().get<T>(id);
  }
  std::string address(const std::string& task_id, int network = 0) {
    const auto t = get<v1::Task>(task_id);
    if (t->status().state() != v1::TASK_PENDING) return "error: " + t->status().error();
    return t->networks_size() > network ? t->networks(network).addresses(0) : "none";
  }

  SimWorld world_;
  SimExecutor strand_{world_};
  store::InstantProposer proposer_;
  store::Store store_;
  SeededRng rng_{1};
  std::unique_ptr<Allocator> allocator_;
};

}  // namespace muster::manager::allocator
