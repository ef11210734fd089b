package sightflow.flink;

import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.streaming.api.operators.BoundedMultiInput;
import org.apache.flink.streaming.api.operators.BoundedOneInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.TwoInputStreamOperator;
import org.apache.flink.streaming.api.operators.python.embedded.AbstractEmbeddedPythonFunctionOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.types.Row;

/**
 * Hands records to Python many at a time, and asks Python for its state when a checkpoint is taken.
 *
 * <p>PyFlink's own operators call Python once per record, and Python has no hook at a checkpoint there. Here a shell (see
 * operators/flink/stage_shell.py) takes a batch of records of all keys in one call. What it holds per key goes into keyed state just
 * before the barrier is sent on, and comes back, every key's, when the operator opens.
 *
 * <p>First input: Row(key, Row(columns)), keyed by the key. Second input, where there is one: Row(columns), broadcast. Output:
 * Row(topic, key, value).
 */
public final class BatchOperator extends AbstractEmbeddedPythonFunctionOperator<Row>
        implements OneInputStreamOperator<Row, Row>, TwoInputStreamOperator<Row, Row, Row>, BoundedOneInput, BoundedMultiInput {

    private static final long serialVersionUID = 1L;
    private static final int OUTPUT_COLUMNS = 3;

    private final byte[] pickledShell;
    private final String[] stateNames;
    private final int maxCount;
    private final long maxWaitMs;
    private final long tickMs;

    private transient ValueState<byte[]>[] states;
    private transient StreamRecord<Row> out;
    private transient Object[] held;
    private transient int heldColumns;
    private transient int heldCount;
    private transient boolean isFlushDue;
    private transient boolean isOpen;

    public BatchOperator(Configuration config, byte[] pickledShell, String[] stateNames, int maxCount, long maxWaitMs, long tickMs) {
        super(config);
        this.pickledShell = pickledShell;
        this.stateNames = stateNames;
        this.maxCount = maxCount;
        this.maxWaitMs = maxWaitMs;
        this.tickMs = tickMs;
    }

    @Override
    public void openPythonInterpreter() {
        interpreter.set("context", getRuntimeContext());
        interpreter.set("pickled", pickledShell);
        interpreter.exec("import cloudpickle; shell = cloudpickle.loads(pickled); shell.open(context)");
    }

    @Override
    @SuppressWarnings("unchecked")
    public void open() throws Exception {
        super.open();
        isOpen = true;
        out = new StreamRecord<>(null);
        held = new Object[0];
        states = (ValueState<byte[]>[]) new ValueState<?>[stateNames.length];
        for (int i = 0; i < states.length; i++) {
            states[i] = getRuntimeContext().getState(
                    new ValueStateDescriptor<>(stateNames[i], PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
        }
        restore();
        getProcessingTimeService().registerTimer(nextTick(), this::tick);
    }

    private void restore() throws Exception {
        List<Row> keys;
        try (Stream<Row> all = this.<Row>getKeyedStateBackend().getKeys(stateNames[0], VoidNamespace.INSTANCE)) {
            keys = all.collect(Collectors.toList());
        }
        for (Row key : keys) {
            setCurrentKey(key);
            Object[] parts = new Object[1 + states.length];
            parts[0] = key.getField(0);
            for (int i = 0; i < states.length; i++) {
                parts[1 + i] = states[i].value();
            }
            interpreter.invokeMethod("shell", "restore", (Object) parts);
        }
    }

    @Override
    public void processElement(StreamRecord<Row> element) throws Exception {
        Row record = (Row) element.getValue().getField(1);
        int columns = record.getArity() + 2;
        if (heldColumns != columns) {
            heldColumns = columns;
            held = new Object[maxCount * columns];
        }
        int at = heldCount * columns;
        held[at] = element.getValue().getField(0);
        held[at + 1] = element.getTimestamp();
        for (int i = 2; i < columns; i++) {
            held[at + i] = record.getField(i - 2);
        }
        heldCount++;
        if (heldCount == maxCount) {
            flush();
        } else if (!isFlushDue) {
            isFlushDue = true;
            long now = getProcessingTimeService().getCurrentProcessingTime();
            getProcessingTimeService().registerTimer(now + maxWaitMs, this::flushDue);
        }
    }

    private void flushDue(long timestamp) throws Exception {
        isFlushDue = false;
        flush();
    }

    private void flush() throws Exception {
        if (heldCount > 0) {
            Object[] batch = Arrays.copyOf(held, heldCount * heldColumns);
            Arrays.fill(held, 0, heldCount * heldColumns, null);
            heldCount = 0;
            emit(interpreter.invokeMethod("shell", "take", (Object) batch));
        }
    }

    private void tick(long timestamp) throws Exception {
        flush();
        emit(interpreter.invokeMethod("shell", "tick", timestamp));
        getProcessingTimeService().registerTimer(nextTick(), this::tick);
    }

    private long nextTick() {
        long now = getProcessingTimeService().getCurrentProcessingTime();
        return now + tickMs - now % tickMs;
    }

    private void emit(Object outputs) {
        Object[] columns = outputs instanceof List ? ((List<?>) outputs).toArray() : (Object[]) outputs;
        for (int i = 0; i < columns.length; i += OUTPUT_COLUMNS) {
            output.collect(out.replace(Row.of(columns[i], columns[i + 1], columns[i + 2])));
        }
    }

    @Override
    public void processElement1(StreamRecord<Row> element) throws Exception {
        processElement(element);
    }

    @Override
    public void processElement2(StreamRecord<Row> element) throws Exception {
        flush();
        Row record = element.getValue();
        Object[] columns = new Object[record.getArity()];
        for (int i = 0; i < columns.length; i++) {
            columns[i] = record.getField(i);
        }
        emit(interpreter.invokeMethod("shell", "take_broadcast", (Object) columns));
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        flush();
        super.processWatermark(mark);
    }

    @Override
    public void prepareSnapshotPreBarrier(long checkpointId) throws Exception {
        flush();
        Object changed = interpreter.invokeMethod("shell", "changed_states");
        Object[] columns = changed instanceof List ? ((List<?>) changed).toArray() : (Object[]) changed;
        for (int at = 0; at < columns.length; at += 1 + states.length) {
            setCurrentKey(Row.of(columns[at]));
            for (int i = 0; i < states.length; i++) {
                store(states[i], (byte[]) columns[at + 1 + i]);
            }
        }
        super.prepareSnapshotPreBarrier(checkpointId);
    }

    private static void store(ValueState<byte[]> state, byte[] value) throws Exception {
        if (value == null) {
            return; // as it was
        }
        if (value.length == 0) {
            state.clear();
        } else {
            state.update(value);
        }
    }

    @Override
    public void endInput() throws Exception {
        endInput(1);
    }

    @Override
    public void endInput(int inputId) throws Exception {
        flush();
        if (inputId == 1) {
            emit(interpreter.invokeMethod("shell", "finish"));
        }
    }

    @Override
    public void finish() throws Exception {
        flush();
        super.finish();
    }

    @Override
    public void close() throws Exception {
        try {
            if (isOpen) {
                interpreter.invokeMethod("shell", "close");
            }
        } finally {
            super.close();
        }
    }
}
