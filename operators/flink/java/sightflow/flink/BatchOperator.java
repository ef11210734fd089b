package sightflow.flink;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.state.VoidNamespace;
import org.apache.flink.streaming.api.operators.BoundedMultiInput;
import org.apache.flink.streaming.api.operators.OneInputStreamOperator;
import org.apache.flink.streaming.api.operators.TwoInputStreamOperator;
import org.apache.flink.streaming.api.operators.python.embedded.AbstractEmbeddedPythonFunctionOperator;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.types.Row;

/**
 * Hands records to Python many at a time, and asks Python for its state when a checkpoint is taken.
 *
 * <p>PyFlink's own operators call Python once per record, and Python hears of no checkpoint there. Here a shell
 * (operators/flink/stage_shell.py) takes a batch of records of all keys in one call. What has changed in it goes into keyed state
 * just before the barrier is sent on, and the states of all keys are handed to it when the operator opens.
 *
 * <p>First input: Row(key, Row(columns)), keyed by Row(key). Second input, where there is one: Row(columns), broadcast. Output:
 * Row(topic, key, value). Nothing that comes after a record is worked on or sent on before it.
 */
public final class BatchOperator extends AbstractEmbeddedPythonFunctionOperator<Row>
        implements OneInputStreamOperator<Row, Row>, TwoInputStreamOperator<Row, Row, Row>, BoundedMultiInput {

    private static final long serialVersionUID = 1L;
    private static final int OUTPUT_COLUMNS = 3;

    private final byte[] pickledShell;
    private final String[] stateNames;
    private final int maxCount;
    private final long maxWaitMs;
    private final long tickMs;

    private transient List<ValueState<byte[]>> states;
    private transient List<Object> held; // key, timestamp and columns of one record after the other
    private transient int heldCount; // records
    private transient boolean isFlushDue; // a timer will flush
    private transient StreamRecord<Row> out;
    private transient boolean isShellOpen;

    /**
     * Makes what is sent to the workers.
     *
     * @param config options of the job; they tell which Python to run
     * @param pickledShell a StageShell
     * @param stateNames the parts of a key's state; every key with state has the first
     * @param maxCount records of a full batch
     * @param maxWaitMs how long a record may wait for a batch to fill, in processing time
     * @param tickMs how often the shell may look at the clock, in processing time
     */
    public BatchOperator(
            Configuration config, byte[] pickledShell, String[] stateNames, int maxCount, long maxWaitMs, long tickMs) {
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
        isShellOpen = true;
    }

    @Override
    public void open() throws Exception {
        super.open();
        held = new ArrayList<>();
        out = new StreamRecord<>(null);
        states = new ArrayList<>();
        for (String name : stateNames) {
            states.add(getRuntimeContext()
                    .getState(new ValueStateDescriptor<>(name, PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)));
        }
        restore();
        getProcessingTimeService().registerTimer(nextTick(), this::tick);
    }

    private void restore() throws Exception {
        List<Row> keys;
        try (Stream<Row> stored = this.<Row>getKeyedStateBackend().getKeys(stateNames[0], VoidNamespace.INSTANCE)) {
            keys = stored.collect(Collectors.toList());
        }
        for (Row key : keys) {
            setCurrentKey(key);
            List<Object> parts = new ArrayList<>();
            parts.add(key.getField(0));
            for (ValueState<byte[]> state : states) {
                parts.add(state.value());
            }
            interpreter.invokeMethod("shell", "restore", (Object) parts.toArray());
        }
    }

    /** Keys are set where state is read or written, not with each record. */
    @Override
    public boolean hasKeyContext1() {
        return false;
    }

    @Override
    public void processElement1(StreamRecord<Row> element) throws Exception {
        processElement(element);
    }

    @Override
    public void processElement(StreamRecord<Row> element) throws Exception {
        held.add(element.getValue().getField(0));
        held.add(element.getTimestamp());
        addColumns(element.getValue().getFieldAs(1), held);
        heldCount++;
        if (heldCount == maxCount) {
            flush();
        } else if (!isFlushDue) {
            isFlushDue = true;
            long now = getProcessingTimeService().getCurrentProcessingTime();
            getProcessingTimeService().registerTimer(now + maxWaitMs, this::flushDue);
        }
    }

    @Override
    public void processElement2(StreamRecord<Row> element) throws Exception {
        flush();
        List<Object> columns = new ArrayList<>();
        addColumns(element.getValue(), columns);
        emit(interpreter.invokeMethod("shell", "take_broadcast", (Object) columns.toArray()));
    }

    /** Adds what a row holds; the row itself may be Flink's to use again, its columns (text, bytes, numbers) are not. */
    private static void addColumns(Row row, List<Object> columns) {
        for (int i = 0; i < row.getArity(); i++) {
            columns.add(row.getField(i));
        }
    }

    private void flushDue(long timestamp) throws Exception {
        isFlushDue = false;
        flush();
    }

    private void flush() throws Exception {
        if (heldCount > 0) {
            Object[] columns = held.toArray();
            held.clear();
            heldCount = 0;
            emit(interpreter.invokeMethod("shell", "take", (Object) columns));
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
        List<?> columns = (List<?>) outputs; // of a Python list
        for (int i = 0; i < columns.size(); i += OUTPUT_COLUMNS) {
            output.collect(out.replace(Row.of(columns.get(i), columns.get(i + 1), columns.get(i + 2))));
        }
    }

    @Override
    public void processWatermark(Watermark mark) throws Exception {
        flush();
        super.processWatermark(mark);
    }

    @Override
    public void processWatermarkStatus(WatermarkStatus status) throws Exception {
        flush();
        super.processWatermarkStatus(status);
    }

    @Override
    protected void processWatermarkStatus(WatermarkStatus status, int index) throws Exception {
        flush();
        super.processWatermarkStatus(status, index);
    }

    /** Brings keyed state up to date. A stop with a savepoint comes by here too, and no other way: it finishes nothing. */
    @Override
    public void prepareSnapshotPreBarrier(long checkpointId) throws Exception {
        flush();
        List<?> columns = (List<?>) interpreter.invokeMethod("shell", "changed_states");
        for (int at = 0; at < columns.size(); at += 1 + stateNames.length) {
            setCurrentKey(Row.of(columns.get(at)));
            for (int i = 0; i < stateNames.length; i++) {
                store(states.get(i), (byte[]) columns.get(at + 1 + i));
            }
        }
        super.prepareSnapshotPreBarrier(checkpointId);
    }

    private static void store(ValueState<byte[]> state, byte[] value) throws Exception {
        if (value == null) {
            return; // UNCHANGED
        }
        if (value.length == 0) {
            state.clear(); // NOTHING
        } else {
            state.update(value);
        }
    }

    /** The end of the second input says nothing to the shell. */
    @Override
    public void endInput(int inputId) throws Exception {
        if (inputId == 1) {
            flush();
            emit(interpreter.invokeMethod("shell", "finish"));
        }
    }

    @Override
    public void close() throws Exception {
        try {
            if (isShellOpen) {
                interpreter.invokeMethod("shell", "close");
            }
        } finally {
            super.close();
        }
    }
}
