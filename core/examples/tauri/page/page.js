// Asks for the jobs twice a second, and draws them.
'use strict';

const { invoke } = window.__TAURI__.core;
const rows = document.querySelector('tbody');
const problem = document.querySelector('#problem');

function cell(row, content) {
  const cell = row.insertCell();
  cell.append(content);
}

function draw(jobs) {
  rows.replaceChildren();
  for (const job of jobs) {
    const row = rows.insertRow();
    cell(row, `${job.worker} ${job.id}`);
    cell(row, job.errors.at(-1)?.message ?? job.state);
    if (job.progress_total) {
      const bar = document.createElement('progress');
      bar.max = job.progress_total;
      bar.value = job.progress_done;
      cell(row, bar);
    } else {
      cell(row, '');
    }
    if (['completed', 'discarded', 'cancelled'].includes(job.state)) {
      cell(row, '');
    } else {
      const button = document.createElement('button');
      button.textContent = 'Cancel';
      button.onclick = () => invoke('cancel', { job: job.id }).then(look, fail);
      cell(row, button);
    }
  }
}

function fail(error) {
  problem.textContent = error;
}

function look() {
  return invoke('jobs').then(draw, fail);
}

document.querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  const form = event.target;
  invoke('add_note', { text: form.text.value }).then(() => {
    form.reset();
    return look();
  }, fail);
};

setInterval(look, 500);
look();
