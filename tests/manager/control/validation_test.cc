#include "manager/control/validation.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/time.h"

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
      {"too large",
       [](auto& s) {
         s.mutable_task()->mutable_container()->add_env("A=" + std::string(240'000, 'x'));
       }},
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
      {"job per node",
       [](auto& s) {
         s.mutable_global_job();
         s.mutable_task()->mutable_placement()->set_max_replicas(1);
       }},
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
      {"port twice in places that may meet",
       [](auto& s) {
         for (const char* bind : {"eth0", "10.0.0.5"}) {
           auto* port = s.mutable_endpoint()->add_ports();
           port->set_target_port(80);
           port->set_published_port(8080);
           port->set_bind(bind);
         }
       }},
      {"options of a port that do not go together",
       [](auto& s) {
         auto* port = s.mutable_endpoint()->add_ports();
         port->set_target_port(80);
         port->set_protocol(v1::PortConfig::UDP);
         port->set_proxy_protocol(1);
       }},
  };
  for (const Case& c : cases) {
    v1::ServiceSpec spec = good();
    c.spoil(spec);
    EXPECT_EQ(validate_service_spec(spec).code(), c.code) << c.what;
  }
}

TEST(Validation, PortsOfDifferentPlacesAndTheWordsOfWrongOnes) {
  v1::ServiceSpec spec = good();
  for (const char* bind : {"10.0.0.5", "10.0.0.6", "fd00::1"}) {
    auto* port = spec.mutable_endpoint()->add_ports();
    port->set_target_port(80);
    port->set_published_port(8080);
    port->set_bind(bind);
  }
  EXPECT_EQ(validate_service_spec(spec).message(), "");
  spec.mutable_endpoint()->mutable_ports(1)->set_mode(v1::PortConfig::HOST);
  spec.mutable_endpoint()->mutable_ports(1)->set_local(true);
  EXPECT_EQ(validate_service_spec(spec).message(),
            "EndpointSpec: port 8080:80: local is for ports published in ingress mode: one in host "
            "mode leads to its own node's task anyway");
}

TEST(Validation, JobsInSwarmsWords) {
  const auto error_of = [](std::function<void(v1::ServiceSpec&)> spoil) {
    v1::ServiceSpec spec = good();
    spec.mutable_replicated_job()->set_total_completions(3);
    spoil(spec);
    normalise(spec);
    return validate_service_spec(spec).message();
  };
  EXPECT_EQ(error_of([](auto&) {}), "");
  EXPECT_EQ(error_of([](auto& s) { s.mutable_update(); }), "Jobs may not have an update config");
  EXPECT_EQ(error_of([](auto& s) { s.mutable_rollback(); }), "Jobs may not have a rollback config");
  EXPECT_EQ(error_of([](auto& s) {
              s.mutable_global_job();
              s.mutable_update();
            }),
            "Jobs may not have an update config");
  EXPECT_EQ(error_of([](auto& s) {
              s.mutable_replicated_job()->set_max_concurrent(static_cast<uint64_t>(-1));
            }),
            "Maximum concurrent jobs must not be negative");
  EXPECT_EQ(
      error_of([](auto& s) { s.mutable_replicated_job()->set_total_completions(1ull << 40); }),
      "Total completed jobs must be between 0 and 2147483647");
}

TEST(Validation, CountsOfAJobHaveDefaults) {
  v1::ServiceSpec spec = good();
  spec.mutable_replicated_job();
  normalise(spec);
  EXPECT_EQ(spec.replicated_job().max_concurrent(), 1u);
  EXPECT_EQ(spec.replicated_job().total_completions(), 1u);
  spec.mutable_replicated_job()->Clear();
  spec.mutable_replicated_job()->set_max_concurrent(4);
  normalise(spec);
  EXPECT_EQ(spec.replicated_job().total_completions(), 4u);
  spec.mutable_replicated_job()->Clear();
  spec.mutable_replicated_job()->set_total_completions(0);
  normalise(spec);
  EXPECT_EQ(spec.replicated_job().max_concurrent(), 1u);
  EXPECT_EQ(spec.replicated_job().total_completions(), 0u) << "0 was meant";
}

TEST(Validation, SubnetsOfNetworks) {
  const auto error_of = [](const char* subnet, const char* gateway, const char* range) {
    v1::NetworkSpec spec;
    spec.mutable_annotations()->set_name("back");
    auto* pool = spec.add_pools();
    pool->set_subnet(subnet);
    pool->set_gateway(gateway);
    pool->set_ip_range(range);
    spec.set_ipv6(std::string(subnet).find(':') != std::string::npos);
    return validate_network_spec(spec).message();
  };
  EXPECT_EQ(error_of("10.9.0.0/24", "10.9.0.254", "10.9.0.0/25"), "");
  EXPECT_EQ(error_of("", "", ""), "");
  EXPECT_EQ(error_of("10.9.0.0/33", "", ""), "\"10.9.0.0/33\" is not in CIDR form (10.0.0.0/24)");
  EXPECT_EQ(error_of("10.9.0.0/24", "10.8.0.1", ""),
            "gateway 10.8.0.1 is not in subnet 10.9.0.0/24");
  EXPECT_EQ(error_of("10.9.0.0/24", "", "10.8.0.0/25"),
            "ip-range 10.8.0.0/25 is not in subnet 10.9.0.0/24");
  EXPECT_EQ(error_of("10.9.0.0/24", "10.9.0.0", ""),
            "gateway 10.9.0.0 is reserved for another purpose");
  EXPECT_EQ(error_of("10.9.0.0/24", "10.9.0.255", ""),
            "gateway 10.9.0.255 is reserved for another purpose");
  EXPECT_EQ(error_of("10.9.0.0/24", "gw", ""), "\"gw\" is not an IP address");
  EXPECT_EQ(error_of("10.9.0.0/31", "", ""),
            "subnet 10.9.0.0/31 is too small, a network needs at least a /30");
  EXPECT_EQ(error_of("", "10.9.0.1", ""),
            "ipam configuration: a gateway, range or auxiliary address needs a subnet");
  EXPECT_EQ(error_of("127.7.0.0/16", "", ""),
            "subnet 127.7.0.0/16 cannot be a network's: 127.0.0.0/8 is for loopback");
  EXPECT_EQ(error_of("0.0.0.0/0", "", ""),
            "subnet 0.0.0.0/0 cannot be a network's: 0.0.0.0/8 is for this host itself");
  EXPECT_EQ(error_of("fe80::/64", "", ""),
            "subnet fe80::/64 cannot be a network's: fe80::/10 is link-local");
  EXPECT_EQ(error_of("fd00:1::/64", "fd00:1::1", "fd00:1::1000/116"), "");
  EXPECT_EQ(error_of("10.9.0.7/32", "", ""),
            "subnet 10.9.0.7/32 is too small, a network needs at least a /30");
  EXPECT_EQ(error_of("fd00:1::/127", "", ""),
            "subnet fd00:1::/127 is too small, a network needs at least a /126");
  EXPECT_EQ(error_of("10.9.0.0/30", "10.9.0.1", ""), "");
}

TEST(Validation, SubnetsOfIpv6AreAskedForAndAuxiliaryAddressesLieInTheirs) {
  const auto error_of = [](const char* text) {
    v1::NetworkSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
    spec.mutable_annotations()->set_name("back");
    return validate_network_spec(spec).message();
  };
  EXPECT_EQ(error_of("pools { subnet: 'fd00:1::/64' }"),
            "subnet fd00:1::/64 is of IPv6, which is not enabled for the network: ask for it with "
            "--ipv6 (enable_ipv6 in a Compose file)");
  EXPECT_EQ(error_of("ipv6: true pools { subnet: 'fd00:1::/64' }"), "");
  EXPECT_EQ(
      error_of("pools { subnet: '10.9.0.0/24' aux_addresses { key: 'a' value: '10.8.0.2' } }"),
      "auxiliary address 10.8.0.2 is not in subnet 10.9.0.0/24");
  EXPECT_EQ(error_of("pools { subnet: '10.9.0.0/24' aux_addresses { key: 'a' value: '10.9.0.2' } "
                     "aux_addresses { key: 'b' value: '10.9.0.2' } }"),
            "auxiliary address 10.9.0.2 is reserved or named twice");
  EXPECT_EQ(error_of("pools { subnet: '10.9.0.0/24' gateway: '10.9.0.2' "
                     "aux_addresses { key: 'a' value: '10.9.0.2' } }"),
            "gateway 10.9.0.2 is reserved for another purpose");
  EXPECT_EQ(error_of("pools { subnet: '10.9.0.0/24' aux_addresses { key: 'a' value: 'x' } }"),
            "\"x\" is not an IP address");
  EXPECT_EQ(error_of("pools { subnet: '10.9.0.0/24' } pools { subnet: '10.9.0.128/25' }"),
            "subnet 10.9.0.128/25 overlaps 10.9.0.0/24 of the same network");
}

TEST(Validation, OptionsOfNetworks) {
  const auto error_of = [](const std::string& text) {
    v1::NetworkSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
    spec.mutable_annotations()->set_name("back");
    return validate_network_spec(spec).message();
  };
  const auto option = [&](const std::string& key, const std::string& value,
                          const std::string& more = "") {
    return error_of("driver_options { key: \"" + key + "\" value: \"" + value + "\" }" + more);
  };
  EXPECT_EQ(error_of("driver: 'host' pools { subnet: '10.9.0.0/24' }"),
            "a network of driver host has no addresses of its own (its tasks are in the node's "
            "network): --subnet has no effect there, leave it out");
  EXPECT_EQ(error_of("driver: 'none' ipv6: true"),
            "a network of driver none has no addresses of its own (its tasks are in none): --ipv6 "
            "has no effect there, leave it out");
  EXPECT_EQ(error_of("driver: 'host'"), "");
  EXPECT_EQ(error_of("driver: 'bridge' ipv6: true pools { subnet: '10.9.0.0/24' }"), "");
  const std::string mtu = "com.docker.network.driver.mtu";
  EXPECT_EQ(option(mtu, "9000"), "");
  EXPECT_EQ(option(mtu, "68"), "");
  const std::string of_mtu = " (option " + mtu + ")";
  EXPECT_EQ(option(mtu, "jumbo"), "MTU \"jumbo\" is not a number from 68 to 65535" + of_mtu);
  EXPECT_EQ(option(mtu, "1500b"), "MTU \"1500b\" is not a number from 68 to 65535" + of_mtu);
  EXPECT_EQ(option(mtu, "67"), "MTU \"67\" is not a number from 68 to 65535" + of_mtu);
  EXPECT_EQ(option(mtu, "70000"), "MTU \"70000\" is not a number from 68 to 65535" + of_mtu);
  EXPECT_EQ(option(mtu, "1279", "ipv6: true"), "MTU 1279 is too small: IPv6 needs at least 1280");
  EXPECT_EQ(option(mtu, "1279", "pools { subnet: \"fd00:1::/64\" }"),
            "MTU 1279 is too small: IPv6 needs at least 1280");
  EXPECT_EQ(option(mtu, "1280", "ipv6: true"), "");
  EXPECT_EQ(option("encrypted", "false"), "");
  EXPECT_EQ(option("encrypted", ""), "");
  EXPECT_EQ(option("encrypted", "", " driver: \"bridge\""),
            "only overlay networks can be encrypted");
  const std::string vni = "com.docker.network.driver.overlay.vxlanid_list";
  EXPECT_EQ(option(vni, "4711"), "");
  EXPECT_EQ(option(vni, "4711,4712"), "");
  EXPECT_EQ(option(vni, "0"), "VXLAN id \"0\" is not a number from 1 to 16773119");
  EXPECT_EQ(option(vni, "16773120"), "VXLAN id \"16773120\" is not a number from 1 to 16773119");
  EXPECT_EQ(option(vni, "12x"), "VXLAN id \"12x\" is not a number from 1 to 16773119");
  EXPECT_EQ(error_of("pools { subnet: \"10.9.0.0/16\" } pools { subnet: \"10.9.4.0/24\" }"),
            "subnet 10.9.4.0/24 overlaps 10.9.0.0/16 of the same network");
  EXPECT_EQ(error_of("pools { subnet: \"10.9.0.0/24\" aux_addresses { key: \"a\" value: "
                     "\"10.8.0.7\" } }"),
            "auxiliary address 10.8.0.7 is not in subnet 10.9.0.0/24");
  EXPECT_EQ(error_of("pools { subnet: \"10.9.0.0/24\" aux_addresses { key: \"a\" value: "
                     "\"10.9.0.7\" } aux_addresses { key: \"b\" value: \"10.9.0.7\" } }"),
            "auxiliary address 10.9.0.7 is reserved or named twice");
  EXPECT_EQ(error_of("pools { aux_addresses { key: \"a\" value: \"10.9.0.7\" } }"),
            "ipam configuration: a gateway, range or auxiliary address needs a subnet");
  EXPECT_EQ(error_of("ipam_driver: \"dhcp\""), "IPAM driver \"dhcp\" is not known");
}

TEST(Validation, ClusterSpecs) {
  struct Case {
    const char* what;
    std::function<void(v1::ClusterSpec&)> change;
    bool good;
  };
  const Case cases[] = {
      {"nothing said", [](auto&) {}, true},
      {"100 ms", [](auto& s) { s.set_heartbeat_period_ns(100'000'000); }, true},
      {"99 ms", [](auto& s) { s.set_heartbeat_period_ns(99'000'000); }, false},
      {"negative period", [](auto& s) { s.set_heartbeat_period_ns(-1); }, false},
      {"negative grace", [](auto& s) { s.set_vanished_agent_grace_ns(-1); }, false},
      {"half an hour", [](auto& s) { s.set_node_cert_expiry_ns(Duration(30min).count()); }, false},
      {"renamed", [](auto& s) { s.mutable_annotations()->set_name("other"); }, false},
      {"negative retention", [](auto& s) { s.set_event_retention_ns(-1); }, false},
      {"no wait for acknowledgements",
       [](auto& s) { s.set_drain_ack_timeout_ns(Duration(99ms).count()); }, false},
      {"10 s for acknowledgements",
       [](auto& s) { s.set_drain_ack_timeout_ns(Duration(10s).count()); }, true},
      {"longer than agents wait",
       [](auto& s) { s.set_drain_ack_timeout_ns(Duration(11s).count()); }, false},
      {"keys that never rest",
       [](auto& s) { s.mutable_encryption()->set_key_rotation_ns(Duration(29s).count()); }, false},
      {"keys of half a minute",
       [](auto& s) { s.mutable_encryption()->set_key_rotation_ns(Duration(30s).count()); }, true},
      {"keys of a month",
       [](auto& s) { s.mutable_encryption()->set_key_rotation_ns(Duration(721h).count()); }, false},
      {"negative keys", [](auto& s) { s.mutable_encryption()->set_key_rotation_ns(-1); }, false},
      {"no port", [](auto& s) { s.mutable_encryption()->set_udp_port(65536); }, false},
      {"a log driver", [](auto& s) { s.mutable_default_log_driver()->set_name("local"); }, true},
      {"no such log driver", [](auto& s) { s.mutable_default_log_driver()->set_name("x"); }, false},
      {"huge",
       [](auto& s) { s.mutable_annotations()->add_labels()->set_key(std::string(40'000, 'x')); },
       false},
  };
  for (const Case& c : cases) {
    v1::ClusterSpec spec;
    c.change(spec);
    EXPECT_EQ(validate_cluster_spec(spec).ok(), c.good) << c.what;
  }
}

}  // namespace
}  // namespace muster::manager::control
