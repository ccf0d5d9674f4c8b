#include "base/metrics.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(Metrics, ExposesFamiliesByNameAndSeriesByLabels) {
  Metrics metrics;
  metrics.counter("muster_b_total", "second", {{"kind", "x\"y"}}).add(3);
  metrics.gauge("muster_a", "first").set(-2);
  EXPECT_EQ(metrics.expose(),
            "# HELP muster_a first\n# TYPE muster_a gauge\nmuster_a -2\n"
            "# HELP muster_b_total second\n# TYPE muster_b_total counter\n"
            "muster_b_total{kind=\"x\\\"y\"} 3\n");
}

TEST(Metrics, TheSameNameAndLabelsAreTheSameMetric) {
  Metrics metrics;
  EXPECT_EQ(&metrics.counter("muster_x_total", "x", {{"a", "1"}}),
            &metrics.counter("muster_x_total", "x", {{"a", "1"}}));
  EXPECT_NE(&metrics.counter("muster_x_total", "x", {{"a", "1"}}),
            &metrics.counter("muster_x_total", "x", {{"a", "2"}}));
}

TEST(Metrics, HistogramBucketsAreCumulativeAndBoundsInclusive) {
  Metrics metrics;
  Histogram& h = metrics.histogram("muster_wait_seconds", "wait", {0.1, 1});
  h.observe(0.1);
  h.observe(0.5);
  h.observe(5);
  EXPECT_EQ(metrics.expose(),
            "# HELP muster_wait_seconds wait\n# TYPE muster_wait_seconds histogram\n"
            "muster_wait_seconds_bucket{le=\"0.1\"} 1\n"
            "muster_wait_seconds_bucket{le=\"1\"} 2\n"
            "muster_wait_seconds_bucket{le=\"+Inf\"} 3\n"
            "muster_wait_seconds_sum 5.6\nmuster_wait_seconds_count 3\n");
}

}  // namespace
}  // namespace muster
