#include "manager/control/validation.h"

#include <gtest/gtest.h>

#include <functional>

namespace muster::manager::control {
namespace {

v1::ServiceSpec good() {
  v1::ServiceSpec spec;
  spec.mutable_annotations()->set_name("web");
  spec.mutable_task()->mutable_container()->set_image("registry:5000/team/web:1.2");
  spec.mutable_replicated()->set_replicas(2);
  return spec;
}

TEST(Validation, ImageReferences) {
  for (const char* ok : {"busybox", "busybox:1.36", "a/b/c", "localhost:5000/x:y_z",
                         "r.example.com/a-b/c__d@sha256:"
                         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}) {
    EXPECT_TRUE(validate_image_reference(ok).ok()) << ok;
  }
  for (const char* bad : {"", "Upper", "a b", "x:", ":tag", "a//b", "x@sha256:12", "-a"}) {
    EXPECT_FALSE(validate_image_reference(bad).ok()) << bad;
  }
}

TEST(Validation, Names) {
  for (const char* ok : {"web", "a", "shop_web", "a-b.c"})
    EXPECT_TRUE(validate_name(ok).ok()) << ok;
  for (const char* bad : {"", "-a", "a-", "a b", "a/b"})
    EXPECT_FALSE(validate_name(bad).ok()) << bad;
  EXPECT_TRUE(validate_name(std::string(63, 'a')).ok());
  EXPECT_FALSE(validate_name(std::string(64, 'a')).ok());
}

TEST(Validation, ServiceSpecs) {
  EXPECT_TRUE(validate_service_spec(good()).ok());
  struct Case {
    const char* what;
    std::function<void(v1::ServiceSpec&)> spoil;
    StatusCode code = StatusCode::kInvalidArgument;
  };
  const Case cases[] = {
      {"no image", [](auto& s) { s.mutable_task()->mutable_container()->clear_image(); }},
      {"little memory",
       [](auto& s) {
         s.mutable_task()->mutable_resources()->mutable_reservations()->set_memory_bytes(1000);
       }},
      {"constraint", [](auto& s) { s.mutable_task()->mutable_placement()->add_constraints("x"); }},
      {"negative delay", [](auto& s) { s.mutable_task()->mutable_restart()->set_delay_ns(-1); }},
      {"relative mount",
       [](auto& s) { s.mutable_task()->mutable_container()->add_mounts()->set_target("a"); }},
      {"template",
       [](auto& s) { s.mutable_task()->mutable_container()->set_hostname("{{.Nothing}}"); }},
      {"job", [](auto& s) { s.mutable_global_job(); }, StatusCode::kUnimplemented},
      {"dnsrr with ingress",
       [](auto& s) {
         s.mutable_endpoint()->set_mode(v1::EndpointSpec::DNSRR);
         s.mutable_endpoint()->add_ports()->set_target_port(80);
       }},
      {"port twice",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) {
           auto* port = s.mutable_endpoint()->add_ports();
           port->set_target_port(80 + i);
           port->set_published_port(8080);
         }
       }},
  };
  for (const Case& c : cases) {
    v1::ServiceSpec spec = good();
    c.spoil(spec);
    EXPECT_EQ(validate_service_spec(spec).code(), c.code) << c.what;
  }
}

}  // namespace
}  // namespace muster::manager::control
