"""The naive design as a job: what PyFlink's own examples lead to. Only benchmarks run it.

One JSON message per detection, `json.loads` in Python, keyed per object by a Python `key_by`, one state value per object,
process mode, default bundles. Per detection it does the simplest zone and dwell logic there is: a rectangle, no gap tolerance,
no hysteresis, no windows, no rules. Its objects come numbered by a perfect tracker at the edge, so it does not even track.
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


class Dwell(KeyedProcessFunction):
    """Notes since when one object has been inside, and says so with every detection."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entered = runtime_context.get_state(ValueStateDescriptor("entered_us", Types.LONG()))

    def process_element(self, value: Any, ctx: Any) -> Any:
        x = (value["box"][0] + value["box"][2]) / 2
        y = value["box"][3]
        inside = 0.3 < x < 0.7 and y > 0.05
        entered_us = self.entered.value()
        if inside and entered_us is None:
            entered_us = value["capture_us"]
            self.entered.update(entered_us)
        elif not inside and entered_us is not None:
            self.entered.clear()
        dwell_s = (value["capture_us"] - entered_us) / 1e6 if inside else 0.0
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
