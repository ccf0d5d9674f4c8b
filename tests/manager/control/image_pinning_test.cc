#include "manager/control/image_pinning.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "tests/manager/control/api_fixture.h"

namespace muster::manager::control {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');
const std::string kOther = "sha256:" + std::string(64, 'b');

TEST(ImagePinning, TheTagIsKeptAndLatestIsSaid) {
  EXPECT_EQ(with_digest("busybox", kDigest), "busybox:latest@" + kDigest);
  EXPECT_EQ(with_digest("busybox:1", kDigest), "busybox:1@" + kDigest);
  EXPECT_EQ(with_digest("r:5000/web", kDigest), "r:5000/web:latest@" + kDigest);
  EXPECT_EQ(with_digest("r:5000/web:2", kDigest), "r:5000/web:2@" + kDigest);
}

v1::TaskSpec task_of(const std::string& image, const char* os = nullptr) {
  v1::TaskSpec task;
  task.mutable_container()->set_image(image);
  if (os != nullptr) task.mutable_placement()->add_platforms()->set_os(os);
  return task;
}

TEST(ImagePinning, AnAnswerReplacesDigestAndPlatforms) {
  v1::TaskSpec task = task_of("web:1");
  v1::Platform platform;
  platform.set_os("linux");
  platform.set_architecture("amd64");
  pin_image(ResolvedImage{kDigest, {platform}}, nullptr, task);
  EXPECT_EQ(task.container().image(), "web:1@" + kDigest);
  ASSERT_EQ(task.placement().platforms_size(), 1);
  EXPECT_EQ(task.placement().platforms(0).architecture(), "amd64");
  v1::TaskSpec wished = task_of("web:1", "plan9");
  pin_image(ResolvedImage{kDigest, {platform}}, nullptr, wished);
  ASSERT_EQ(wished.placement().platforms_size(), 1);
  EXPECT_EQ(wished.placement().platforms(0).os(), "plan9");
}

TEST(ImagePinning, AnImageOfNoRegistryIsLeftAlone) {
  v1::TaskSpec task = task_of("web:1");
  const v1::TaskSpec known = task_of("web:1@" + kDigest);
  pin_image(ResolvedImage{}, &known, task);
  EXPECT_EQ(task.container().image(), "web:1");
}

TEST(ImagePinning, NoAnswerKeepsWhatTheServiceHas) {
  const ImageAnswer none = fail(unavailable("away"));
  const v1::TaskSpec known = task_of("web:latest@" + kDigest, "linux");
  v1::TaskSpec same = task_of("web");
  pin_image(none, &known, same);
  EXPECT_EQ(same.container().image(), "web:latest@" + kDigest);
  EXPECT_EQ(same.placement().platforms_size(), 1);
  v1::TaskSpec other = task_of("web:2");
  pin_image(none, &known, other);
  EXPECT_EQ(other.container().image(), "web:2");
  EXPECT_EQ(other.placement().platforms_size(), 0);
}

// Answers when the test says so.
class FakeRegistry final : public ImageResolver {
 public:
  void resolve(const std::string& image, const std::string& auth, Done done) override {
    images.push_back(image);
    auths.push_back(auth);
    waiting.push_back(std::move(done));
  }
  std::vector<std::string> images, auths;
  std::vector<Done> waiting;
};

class ResolveImage : public ApiFixture {
 protected:
  ResolveImage() {
    api_.use_registries(&registry_);
    api_.activate(store_);
  }
  static v1::CreateServiceRequest web(const std::string& image = "web:1") {
    v1::CreateServiceRequest request;
    request.mutable_spec()->mutable_annotations()->set_name("web");
    request.mutable_spec()->mutable_task()->mutable_container()->set_image(image);
    request.mutable_spec()->mutable_task()->set_registry_auth("first");
    request.set_resolve_image(true);
    return request;
  }
  void create(const v1::CreateServiceRequest& request) {
    created_.reset();
    api_.create_service(user_, request, [this](auto r) { created_.emplace(std::move(r)); });
    world_.settle();
  }
  void update(const v1::UpdateServiceRequest& request) {
    updated_.reset();
    api_.update_service(user_, request, [this](auto r) { updated_.emplace(std::move(r)); });
    world_.settle();
  }
  v1::UpdateServiceRequest change() {
    const auto known = store_.snapshot().find<v1::Service>("web");
    v1::UpdateServiceRequest request;
    request.set_service_id(known->id());
    request.set_version(known->meta().version());
    *request.mutable_spec() = known->spec();
    request.mutable_spec()->mutable_task()->clear_registry_auth();  // as readers get it
    return request;
  }
  void answer(ImageAnswer with) {
    ASSERT_FALSE(registry_.waiting.empty());
    auto done = std::move(registry_.waiting.front());
    registry_.waiting.erase(registry_.waiting.begin());
    done(std::move(with));
    world_.settle();
  }

  FakeRegistry registry_;
  std::optional<Result<v1::CreateServiceResponse>> created_;
  std::optional<Result<v1::UpdateServiceResponse>> updated_;
};

TEST_F(ResolveImage, TheServiceIsStoredWithTheDigest) {
  create(web());
  EXPECT_FALSE(created_) << "the registry has not answered";
  EXPECT_EQ(registry_.auths.at(0), "first");
  answer(ResolvedImage{kDigest, {}});
  ASSERT_TRUE(created_ && *created_) << created_->error().message();
  EXPECT_EQ((*created_)->service().spec().task().container().image(), "web:1@" + kDigest);
  EXPECT_EQ((*created_)->warnings_size(), 0);
}

TEST_F(ResolveImage, WhatNeedsNoQuestionAsksNone) {
  create(web("web@" + kDigest));
  EXPECT_TRUE(created_ && *created_);
  create(web("web:2"));  // the name is taken
  ASSERT_TRUE(created_);
  EXPECT_EQ(created_->error().code(), StatusCode::kAlreadyExists);
  create(web("Bad Image"));
  ASSERT_TRUE(created_);
  EXPECT_EQ(created_->error().message(),
            "ContainerSpec: \"Bad Image\" is not a valid repository/tag");
  v1::UpdateServiceRequest plain = change();
  plain.mutable_spec()->mutable_task()->mutable_container()->set_image("web:3");
  update(plain);
  EXPECT_TRUE(updated_ && *updated_);
  v1::UpdateServiceRequest stale = change();
  stale.set_version(1);
  stale.mutable_spec()->mutable_task()->mutable_container()->set_image("web:4");
  stale.set_resolve_image(true);
  update(stale);
  ASSERT_TRUE(updated_);
  EXPECT_EQ(updated_->error().code(), StatusCode::kAborted);
  EXPECT_TRUE(registry_.images.empty());
}

TEST_F(ResolveImage, ARegistryThatFailsIsAWarningInDockersWords) {
  create(web());
  answer(fail(unavailable("connection refused")));
  ASSERT_TRUE(created_ && *created_);
  EXPECT_EQ((*created_)->service().spec().task().container().image(), "web:1");
  ASSERT_EQ((*created_)->warnings_size(), 1);
  EXPECT_EQ((*created_)->warnings(0),
            "image web:1 could not be accessed on a registry to record its digest. Each node will "
            "access web:1 independently, possibly leading to different nodes running different "
            "versions of the image. (connection refused)");
}

TEST_F(ResolveImage, ARegistryThatIsSilentIsGivenUp) {
  create(web());
  world_.advance(ImageQuestions::kPatience - 1ms);
  EXPECT_FALSE(created_);
  world_.advance(2ms);
  ASSERT_TRUE(created_ && *created_);
  EXPECT_EQ((*created_)->warnings_size(), 1);
  answer(ResolvedImage{kDigest, {}});  // late: nobody waits
  EXPECT_EQ(store_.snapshot().find<v1::Service>("web")->spec().task().container().image(), "web:1");
}

TEST_F(ResolveImage, TwoOfOneNameAtATimeAreOneService) {
  create(web());
  std::optional<Result<v1::CreateServiceResponse>> second;
  api_.create_service(user_, web("web:2"), [&](auto r) { second.emplace(std::move(r)); });
  world_.settle();
  answer(ResolvedImage{kDigest, {}});
  answer(ResolvedImage{kOther, {}});
  ASSERT_TRUE(created_ && *created_);
  ASSERT_TRUE(second && !*second);
  EXPECT_EQ(second->error().code(), StatusCode::kAlreadyExists);
}

TEST_F(ResolveImage, LeadershipThatEndsEndsTheQuestions) {
  create(web());
  api_.deactivate();
  ASSERT_TRUE(created_ && !*created_);
  EXPECT_EQ(created_->error().code(), StatusCode::kUnavailable);
  answer(ResolvedImage{kDigest, {}});
}

TEST_F(ResolveImage, AnUpdateTakesTheNewDigestOfTheSameTag) {
  create(web());
  answer(ResolvedImage{kDigest, {}});
  v1::UpdateServiceRequest request = change();
  request.mutable_spec()->mutable_task()->mutable_container()->set_image("web:1");
  request.set_resolve_image(true);
  update(request);
  EXPECT_EQ(registry_.auths.at(1), "first") << "the service's own";
  answer(ResolvedImage{kOther, {}});
  ASSERT_TRUE(updated_ && *updated_);
  EXPECT_EQ((*updated_)->service().spec().task().container().image(), "web:1@" + kOther);
  EXPECT_EQ((*updated_)->service().revision(), 2U);
}

TEST_F(ResolveImage, ARegistryThatIsAwayRestartsNothing) {
  create(web());
  answer(ResolvedImage{kDigest, {}});
  const uint64_t version = (*created_)->service().meta().version();
  v1::UpdateServiceRequest request = change();
  request.mutable_spec()->mutable_task()->mutable_container()->set_image("web:1");
  request.set_resolve_image(true);
  update(request);
  answer(fail(unavailable("away")));
  ASSERT_TRUE(updated_ && *updated_);
  EXPECT_EQ((*updated_)->service().meta().version(), version) << "nothing changed";
  ASSERT_EQ((*updated_)->warnings_size(), 1);
  EXPECT_EQ((*updated_)->warnings(0),
            "image web:1 could not be accessed on a registry to record its digest; the service "
            "keeps the one it has, " +
                kDigest + " (away)");
}

TEST_F(ResolveImage, CredentialsStayAndComeBack) {
  create(web("web@" + kDigest));
  const auto stored = [&] {
    return store_.snapshot().find<v1::Service>("web")->spec().task().registry_auth();
  };
  v1::UpdateServiceRequest request = change();
  request.mutable_spec()->mutable_task()->set_registry_auth("second");
  update(request);
  ASSERT_TRUE(updated_ && *updated_) << updated_->error().message();
  EXPECT_EQ(stored(), "second");
  request = change();
  request.mutable_spec()->mutable_task()->mutable_container()->add_env("A=1");
  update(request);
  EXPECT_EQ(stored(), "second") << "those the service has";
  EXPECT_EQ((*updated_)->service().spec().task().registry_auth(), "");
  EXPECT_EQ((*updated_)->service().previous_spec().task().registry_auth(), "");
  request = change();
  request.mutable_spec()->mutable_task()->set_registry_auth("third");
  update(request);
  request = change();
  request.set_registry_auth_from(v1::UpdateServiceRequest::PREVIOUS_SPEC);
  update(request);
  EXPECT_EQ(stored(), "second") << "those of the spec before";
  request = change();
  request.set_rollback(true);
  update(request);
  EXPECT_EQ(stored(), "third");
}

TEST_F(ResolveImage, PreviousCredentialsNeedAPreviousSpec) {
  create(web("web@" + kDigest));
  v1::UpdateServiceRequest request = change();
  request.set_registry_auth_from(v1::UpdateServiceRequest::PREVIOUS_SPEC);
  update(request);
  ASSERT_TRUE(updated_ && !*updated_);
  EXPECT_EQ(updated_->error().message(), "service web does not have a previous spec");
}

TEST_F(ResolveImage, TheSameSpecAgainIsNoNewVersion) {
  create(web("web@" + kDigest));
  v1::UpdateServiceRequest request = change();
  request.mutable_spec()->mutable_replicated()->set_replicas(2);
  update(request);
  const auto before = store_.snapshot().find<v1::Service>("web");
  update(change());
  ASSERT_TRUE(updated_ && *updated_);
  const auto after = store_.snapshot().find<v1::Service>("web");
  EXPECT_EQ(after->meta().version(), before->meta().version());
  EXPECT_EQ(after->previous_spec().replicated().replicas(), 1U);
}

}  // namespace
}  // namespace muster::manager::control
