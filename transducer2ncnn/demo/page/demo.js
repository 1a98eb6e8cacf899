"use strict";

const element = (id) => document.getElementById(id);
let models = {};
// What ends the recording that is going on, or null.
let stop = null;

const UNITS = { first_token: " s", real_time_factor: "", seconds: " s", loading: " s" };
const DIGITS = { first_token: 2, real_time_factor: 3, seconds: 1, loading: 2 };

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

function setBusy(busy) {
  document.body.dataset.busy = busy;
  for (const input of document.querySelectorAll("select, input")) input.disabled = busy;
  element("record").disabled = busy;
}

function showPrecisions() {
  const legend = document.createElement("legend");
  legend.textContent = "Precisions";
  const boxes = models[element("model").value].map((name) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: name, checked: true });
    label.append(box, ` ${name}`);
    return label;
  });
  element("precisions").replaceChildren(legend, ...boxes);
}

function showResults(precisions) {
  const made = {};
  element("results").replaceChildren(
    ...precisions.map((name) => {
      const result = element("result").content.cloneNode(true).firstElementChild;
      result.dataset.precision = name;
      result.querySelector("h2").textContent = name;
      made[name] = result;
      return result;
    }),
  );
  return made;
}

function show(result, figures) {
  for (const [name, value] of Object.entries(figures)) {
    if (name === "text") result.querySelector(".text").textContent = value;
    else if (name in UNITS && value !== null) {
      result.querySelector(`.${name}`).textContent = value.toFixed(DIGITS[name]) + UNITS[name];
    }
  }
}

// Opens a session; resolves with its socket when the models are loaded.
function start(rate) {
  const precisions = [...document.querySelectorAll("#precisions input:checked")].map((x) => x.value);
  if (precisions.length === 0) return Promise.reject(new Error("Choose a precision."));
  const results = showResults(precisions);
  say("Loading the models …");
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${location.host}/session`);
    socket.onopen = () =>
      socket.send(JSON.stringify({ model: element("model").value, precisions, rate }));
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.kind === "loaded") show(results[message.precision], { loading: message.seconds });
      else if (message.kind === "ready") resolve(socket);
      else if (message.kind === "error") finish(socket, message.message, true);
      else if (message.kind === "end") finish(socket, "Done.");
      else show(results[message.precision], message);
    };
    socket.onclose = () => {
      reject(new Error(element("status").textContent));
      finish(socket, "The server ended the session. Is it still running?", true);
    };
  });
}

function finish(socket, text, isError = false) {
  if (socket.finished) return;
  socket.finished = true;
  const ending = stop;
  stop = null;
  if (ending) ending();
  element("record").textContent = "Record";
  element("record").onclick = record;
  setBusy(false);
  say(text, isError);
}

async function record() {
  setBusy(true);
  const context = new AudioContext();
  let stream = null;
  let socket = null;
  const release = () => {
    if (stream) for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") context.close();
  };
  try {
    // The models first: what is spoken before they are loaded would be lost.
    socket = await start(context.sampleRate);
    say("Asking for the microphone …");
    // As the models were trained: nothing is done to the sound.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    await context.audioWorklet.addModule("microphone.js");
    const microphone = new AudioWorkletNode(context, "microphone", {
      channelCount: 1,
      channelCountMode: "explicit",
      numberOfOutputs: 0,
    });
    microphone.port.onmessage = ({ data }) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      if (data === null) {
        socket.send("end");
        release();
      } else if (data.length > 0) socket.send(data);
    };
    context.createMediaStreamSource(stream).connect(microphone);
    await context.resume();
    stop = release;
    element("record").textContent = "Stop";
    element("record").disabled = false;
    element("record").onclick = () => {
      element("record").disabled = true;
      say("Finishing …");
      microphone.port.postMessage("end");
    };
    say("Recording. Speak, and stop when you are done.");
  } catch (error) {
    release();
    if (socket) {
      finish(socket, error.message, true);
      socket.close();
    } else {
      setBusy(false);
      say(error.message, true);
    }
  }
}

async function transcribe(file) {
  setBusy(true);
  try {
    const socket = await start(null);
    say(`Transcribing ${file.name} …`);
    socket.send(await file.arrayBuffer());
  } catch (error) {
    setBusy(false);
    say(error.message, true);
  }
}

async function begin() {
  models = await (await fetch("models")).json();
  element("model").replaceChildren(...Object.keys(models).map((name) => new Option(name)));
  element("model").onchange = showPrecisions;
  showPrecisions();
  element("record").onclick = record;
  element("file").onchange = () => {
    const [file] = element("file").files;
    if (file) transcribe(file);
  };
  const drop = element("drop");
  const over = (event) => {
    event.preventDefault();
    drop.classList.toggle("over", event.type === "dragover");
  };
  drop.ondragover = drop.ondragleave = over;
  drop.ondrop = (event) => {
    over(event);
    const [file] = event.dataTransfer.files;
    if (file && document.body.dataset.busy !== "true") transcribe(file);
  };
  setBusy(false);
  say("Ready.");
}

begin().catch((error) => say(`The models cannot be listed: ${error.message}`, true));
