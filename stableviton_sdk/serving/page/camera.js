// A photo from the camera.

import { find, make } from "./dom.js";
import { Problem, saying } from "./messages.js";

const NOT_ALLOWED = "The camera wasn't allowed: allow it beside the page's address, or choose a file.";
const NO_CAMERA = "No camera can be used here: choose a file instead.";

/** Let a button open the camera; `take` gets the photo as a file. */
export function takeFromCamera(button, take) {
  const dialog = find("camera");
  const video = find("camera-video");
  let stream = null;

  const stop = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.srcObject = null;
  };

  button.addEventListener("click", saying(async () => {
    const wanted = { video: { width: { ideal: 1920 } } };
    stream = await navigator.mediaDevices?.getUserMedia(wanted).catch((error) => {
      throw new Problem(error.name === "NotAllowedError" ? NOT_ALLOWED : NO_CAMERA);
    });
    if (!stream) throw new Problem(NO_CAMERA);
    video.srcObject = stream;
    dialog.showModal();
  }));
  dialog.addEventListener("close", stop);
  find("camera-cancel").addEventListener("click", () => dialog.close());
  find("camera-take").addEventListener("click", () => {
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    if (!canvas.width) return; // the first frame isn't there yet
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob((blob) => take(new File([blob], "camera photo", { type: blob.type })), "image/jpeg", 0.95);
  });
}
