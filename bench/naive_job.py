"""The naive design as a job: what PyFlink's own examples lead to. Only benchmarks run it.

One JSON message per detection, `json.loads` in Python, keyed per object by a Python `key_by`, one state value per object that
is read and written with each detection, process mode, default bundles. Per detection it does the simplest zone and dwell
logic there is: a rectangle, no hysteresis, no windows, no rules; an object that was away for long begins a new visit. Its
objects come numbered by a perfect tracker at the edge, so it does not even track.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyflink.common import Types, WatermarkStrategy
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.state import ValueStateDescriptor

GONE_US = 2_000_000


class Dwell(KeyedProcessFunction):
    """Notes since when one object has been inside and when it was seen last, and says so with every detection."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(
            ValueStateDescriptor("object", Types.TUPLE([Types.LONG(), Types.LONG()]))
        )

    def process_element(self, value: Any, ctx: Any) -> Any:
        now_us = value["capture_us"]
        x = (value["box"][0] + value["box"][2]) / 2
        y = value["box"][3]
        inside = 0.3 < x < 0.7 and y > 0.05
        entered_us, seen_us = self.state.value() or (0, 0)
        if not inside or now_us - seen_us > GONE_US:
            entered_us = 0
        if inside and not entered_us:
            entered_us = now_us
        self.state.update((entered_us, now_us))
        dwell_s = (now_us - entered_us) / 1e6 if inside else 0.0
        yield json.dumps({"object": value["object"], "inside": inside, "dwell_s": dwell_s, "class": value["class"]})


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bootstrap-servers", required=True)
    p.add_argument("--from-topic", required=True)
    p.add_argument("--to-topic", required=True)
    p.add_argument("--group-id", required=True)
    a = p.parse_args()
    env = StreamExecutionEnvironment.get_execution_environment()
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(a.bootstrap_servers)
        .set_topics(a.from_topic)
        .set_group_id(a.group_id)
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    sink = (
        KafkaSink.builder()
        .set_bootstrap_servers(a.bootstrap_servers)
        .set_record_serializer(
            KafkaRecordSerializationSchema.builder()
            .set_topic(a.to_topic)
            .set_value_serialization_schema(SimpleStringSchema())
            .build()
        )
        .set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
        .build()
    )
    (
        env.from_source(source, WatermarkStrategy.no_watermarks(), "detections")
        .map(json.loads)
        .key_by(lambda d: d["object"], key_type=Types.STRING())
        .process(Dwell(), output_type=Types.STRING())
        .sink_to(sink)
    )
    env.execute("naive design")


if __name__ == "__main__":
    main()
