// Runs one guest in v86 (an x86 PC in WebAssembly) under node: its first serial port is our stdin and stdout.
//
// node v86_boot.mjs CONFIG, where CONFIG is JSON: modules (folder of node_modules), bios, vgabios, kernel, initrd,
// cmdline, memory (bytes), nic ("ne2k" or "virtio"), relay (ws:// URL), and either
//   save: the path that the machine's state is written to as soon as the guest says "@@ ready" (then we end), or
//   state: the path of such a state, to go on from instead of booting.
// We end when the guest has said "@@ done", or when our stdin ends: whoever started us is gone then.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const config = JSON.parse(process.argv[2]);
const load = (path) => import(pathToFileURL(`${config.modules}/${path}`).href);
const { V86 } = await load("v86/build/libv86.mjs");
if (typeof WebSocket === "undefined") {
    globalThis.WebSocket = (await load("ws/wrapper.mjs")).default;
}

const contents = (path) => {
    const file = readFileSync(path);
    return { buffer: file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) };
};
const machine = new V86({
    wasm_path: `${config.modules}/v86/build/v86.wasm`,
    bios: contents(config.bios),
    vga_bios: contents(config.vgabios),
    memory_size: config.memory,
    vga_memory_size: 2 << 20,
    net_device: { type: config.nic, relay_url: config.relay },
    disable_speaker: true,
    autostart: true,
    ...(config.state
        ? { initial_state: contents(config.state) }
        : { bzimage: contents(config.kernel), initrd: contents(config.initrd), cmdline: config.cmdline }),
});

const save = async () => {
    await machine.stop();
    writeFileSync(`${config.save}.partial`, new Uint8Array(await machine.save_state()));
    renameSync(`${config.save}.partial`, config.save);
    process.exit(0);
};

let line = [];
machine.add_listener("serial0-output-byte", (byte) => {
    line.push(byte);
    if (byte !== 10) return;
    const text = String.fromCharCode(...line);
    process.stdout.write(Uint8Array.from(line));
    line = [];
    if (config.save && text.startsWith("@@ ready")) save();
    if (text.startsWith("@@ done")) process.exit(0);
});
// A machine that goes on from a state has said that it is ready before the state was saved.
if (config.state) machine.add_listener("emulator-started", () => process.stdout.write("@@ ready\n"));
process.stdin.on("data", (typed) => machine.serial_send_bytes(0, typed));
process.stdin.on("end", () => process.exit(config.save ? 1 : 0));
