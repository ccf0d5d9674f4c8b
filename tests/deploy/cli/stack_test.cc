// Stacks: what is sent for a file, what stays, and what is said when it goes wrong half-way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deploy/cli/stack_ledger.h"
#include "tests/deploy/cli/fake_daemon.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr const char* kFile = R"(version: "3.8"
services:
  web: {image: "web:1"}
  db: {image: "db:1"}
networks:
  unused: {}
)";

class StackCommands : public testing::Test {
 protected:
  Outcome deploy(std::vector<std::string> options = {}, const std::string& file = kFile) {
    std::vector<std::string> words = {"stack", "deploy", "--detach", "-c", "-"};
    words.insert(words.end(), options.begin(), options.end());
    words.push_back("shop");
    return run_muster(daemon_, words, file);
  }
  // As the first deploy left it: a service of the stack with its image as written and as pinned.
  v1::Service& deployed(const std::string& name, const std::string& written,
                        const std::string& pinned) {
    v1::Service& service = daemon_.add_service("shop_" + name, 1);
    for (const auto& [key, value] :
         {std::pair("com.docker.stack.image", written), {"com.docker.stack.namespace", "shop"}}) {
      auto* label = service.mutable_spec()->mutable_annotations()->add_labels();
      label->set_key(key);
      label->set_value(value);
    }
    service.mutable_spec()->mutable_task()->mutable_container()->set_image(pinned);
    service.mutable_spec()->mutable_task()->mutable_placement()->add_platforms()->set_os("linux");
    return service;
  }
  FakeDaemon daemon_;
};

TEST_F(StackCommands, NetworksFirstAndOnlyThoseInUse) {
  const Outcome outcome = deploy();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "Creating network shop_default\nCreating service shop_db\nCreating service shop_web\n");
  ASSERT_EQ(daemon_.created_networks.size(), 1U);
  ASSERT_EQ(daemon_.created_services.size(), 2U);
  for (const auto& request : daemon_.created_services) EXPECT_TRUE(request.resolve_image());
}

TEST_F(StackCommands, AnUpdateKeepsTheForceCount) {
  deployed("web", "web:1", "web:1@sha256:1").mutable_spec()->mutable_task()->set_force_update(3);
  const Outcome outcome = deploy();
  EXPECT_THAT(outcome.out, HasSubstr("Updating service shop_web (id: id-shop_web)\n"));
  const auto& request = daemon_.updated_services.at(0);
  EXPECT_EQ(request.spec().task().force_update(), 3U);
  EXPECT_EQ(request.spec().task().container().image(), "web:1") << "always: asked for again";
  EXPECT_TRUE(request.resolve_image());
}

TEST_F(StackCommands, ResolveImageChangedAsksForChangedImagesAlone) {
  deployed("web", "web:1", "web:1@sha256:1");
  deployed("db", "db:0", "db:0@sha256:2");
  ASSERT_EQ(deploy({"--resolve-image", "changed"}).code, 0);
  ASSERT_EQ(daemon_.updated_services.size(), 2U);
  const auto& db = daemon_.updated_services[0];
  EXPECT_EQ(db.spec().task().container().image(), "db:1");
  EXPECT_TRUE(db.resolve_image());
  const auto& web = daemon_.updated_services[1];
  EXPECT_EQ(web.spec().task().container().image(), "web:1@sha256:1");
  EXPECT_EQ(web.spec().task().placement().platforms_size(), 1);
  EXPECT_FALSE(web.resolve_image());
}

TEST_F(StackCommands, ResolveImageNeverAsksNothingAndKeepsWhatIsPinned) {
  deployed("web", "web:1", "web:1@sha256:1");
  ASSERT_EQ(deploy({"--resolve-image", "never"}).code, 0);
  EXPECT_FALSE(daemon_.created_services.at(0).resolve_image());
  EXPECT_FALSE(daemon_.updated_services.at(0).resolve_image());
  EXPECT_EQ(daemon_.updated_services[0].spec().task().container().image(), "web:1@sha256:1");
  const Outcome wrong = deploy({"--resolve-image", "often"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("Invalid option often for flag --resolve-image"));
}

TEST_F(StackCommands, PruneTakesServicesAloneAndOnlyWhenAsked) {
  deployed("old", "x", "x");
  ASSERT_EQ(deploy().code, 0);
  EXPECT_THAT(daemon_.removed, IsEmpty());
  const Outcome outcome = deploy({"--prune"});
  EXPECT_THAT(daemon_.removed, ElementsAre("id-shop_old"));
  EXPECT_THAT(outcome.out, testing::StartsWith("Removing service shop_old\n"));
}

TEST_F(StackCommands, AMissingExternalNetworkChangesNothing) {
  deployed("old", "x", "x");
  const Outcome outcome = deploy({"--prune"}, R"(version: "3.8"
services:
  web: {image: "web:1", networks: [out]}
networks:
  out: {external: true}
)");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("network \"out\" is declared as external, but could not be "
                                     "found. You need to create a swarm-scoped network before the "
                                     "stack is deployed"));
  EXPECT_THAT(daemon_.removed, IsEmpty());
  EXPECT_THAT(daemon_.created_services, IsEmpty());
}

TEST_F(StackCommands, HalfADeploySaysWhatIsThereAndWhatIsNot) {
  daemon_.next_error = invalid_argument("no such thing");
  daemon_.calls_before_error = 2;
  const Outcome outcome = deploy();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err,
            "muster: failed to create service shop_web: no such thing; stack shop is deployed in "
            "part (done: network shop_default, service shop_db; not done: service shop_web)\n");
  daemon_.next_error = invalid_argument("no such thing");
  daemon_.calls_before_error = 0;
  EXPECT_THAT(deploy().err, Not(HasSubstr("in part"))) << "nothing was done";
}

TEST_F(StackCommands, WarningsOfTheManagerAreShown) {
  daemon_.warnings = {"image web:1 could not be accessed"};
  const Outcome outcome = deploy();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("WARNING: image web:1 could not be accessed\n"));
}

TEST_F(StackCommands, OptionsOfNetworksAreGivenOnAndWarningsOfThemShown) {
  daemon_.network_warnings = {"driver option \"mtu\" has no effect"};
  const Outcome outcome = deploy({}, R"(version: "3.8"
services:
  web: {image: "web:1"}
networks:
  default: {driver_opts: {mtu: "1400"}}
)");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "WARNING: driver option \"mtu\" has no effect\n");
  ASSERT_EQ(daemon_.created_networks.size(), 1U);
  EXPECT_EQ(daemon_.created_networks[0].spec().driver_options(0).ShortDebugString(),
            "key: \"mtu\" value: \"1400\"");
}

TEST_F(StackCommands, SeveralFilesMergeAndStandardInputIsReadOnce) {
  EXPECT_EQ(deploy({"-c", "-"}).code, 2);
  EXPECT_EQ(run_muster(daemon_, {"stack", "deploy", "shop"}).code, 2);
}

TEST_F(StackCommands, NothingToShow) {
  const Outcome services = run_muster(daemon_, {"stack", "services", "shop"});
  EXPECT_EQ(services.code, 0);
  EXPECT_EQ(services.err, "Nothing found in stack: shop\n");
  const Outcome ps = run_muster(daemon_, {"stack", "ps", "shop"});
  EXPECT_EQ(ps.code, 1);
  EXPECT_EQ(ps.err, "muster: nothing found in stack: shop\n");
  const Outcome rm = run_muster(daemon_, {"stack", "rm", "shop"});
  EXPECT_EQ(rm.code, 0);
  EXPECT_EQ(rm.err, "Nothing found in stack: shop\n");
}

TEST_F(StackCommands, Lists) {
  deployed("web", "web:1", "web:1@sha256:1");
  EXPECT_EQ(run_muster(daemon_, {"stack", "ls"}).out, "NAME      SERVICES\nshop      1\n");
  EXPECT_EQ(run_muster(daemon_, {"stack", "services", "shop"}).out,
            "ID            NAME       MODE         REPLICAS   IMAGE     PORTS\n"
            "id-shop_web   shop_web   replicated   1/1        web:1     \n");
  EXPECT_EQ(run_muster(daemon_, {"stack", "services", "-q", "-f", "name=shop_x", "shop"}).out, "");
  EXPECT_THAT(run_muster(daemon_, {"stack", "ps", "shop", "--format", "{{.Name}} {{.Node}}"}).out,
              "shop_web.1 host1\n");
  EXPECT_EQ(run_muster(daemon_, {"stack", "ps", "-q", "-f", "desired-state=shutdown", "shop"}).out,
            "");
}

TEST_F(StackCommands, DetachedRemovalWaitsForNoTask) {
  deployed("web", "web:1", "web:1@sha256:1");
  v1::Network network;
  network.set_id("net");
  network.mutable_spec()->mutable_annotations()->set_name("shop_default");
  *network.mutable_spec()->mutable_annotations()->mutable_labels() =
      daemon_.services[0].service().spec().annotations().labels();
  daemon_.networks.push_back(network);
  const Outcome outcome = run_muster(daemon_, {"stack", "rm", "--detach", "shop"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "Removing service shop_web\nRemoving network shop_default\n");
  EXPECT_THAT(daemon_.removed, ElementsAre("id-shop_web", "net"));
}

TEST(StackLedger, TellsOnlyWhatIsHalf) {
  StackLedger ledger("s");
  ledger.plan("a");
  ledger.plan("b");
  const Status why = unavailable("gone");
  EXPECT_EQ(ledger.stopped(why).message(), "gone");
  ledger.done("a");
  EXPECT_EQ(ledger.stopped(why).message(),
            "gone; stack s is deployed in part (done: a; not done: b)");
  EXPECT_EQ(ledger.stopped(why).code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace muster::deploy::cli
